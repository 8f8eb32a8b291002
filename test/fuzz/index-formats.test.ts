// Bytes from a registry or a disk, damaged at random: an index is refused with an IndexError, or what comes out is sound.
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { IndexError } from '../../src/index/errors.ts';
import type { LayerIndex } from '../../src/index/layer-index.ts';
import { openNodeIndex } from '../../src/index/node-index.ts';
import { encodeNodeIndex } from '../../src/index/node-index-writer.ts';
import { readSociIndex } from '../../src/index/soci-index.ts';
import { createSociIndex } from '../../src/index/soci-index-writer.ts';
import { writeTarZinfo } from '../../src/index/tar-zinfo.ts';
import { readZtoc } from '../../src/index/ztoc-reader.ts';
import { writeZtoc } from '../../src/index/ztoc-writer.ts';
import { digestFromSha256 } from '../../src/oci/digest.ts';
import { sampleDigest, sampleDigests, sampleEntries, sampleZtoc } from '../index/samples.ts';
import { mutate } from '../support/damage.ts';
import { rounds } from '../support/fixtures.ts';
import { tempDir } from '../support/tmp.ts';

function expectSound({ entries, spans }: LayerIndex): void {
  let before = { blobEnd: 0, streamEnd: 0 };
  for (let i = 0; i < spans.count; i++) {
    const span = spans.span(i);
    expect(span.streamStart).toBe(before.streamEnd);
    expect(span.blobEnd).toBeGreaterThan(span.blobStart);
    expect(span.blobStart).toBeGreaterThanOrEqual(before.blobEnd - 1);
    expect(span.bits).toBeLessThan(8);
    if (span.streamEnd > span.streamStart) expect(spans.spanAt(span.streamStart)).toBe(i);
    before = span;
  }
  expect(before.streamEnd).toBe(spans.streamSize);
  for (const entry of entries) {
    expect(entry.headerOffset).toBeLessThan(entry.dataOffset);
    for (const { streamOffset, size } of entry.extents) {
      expect(streamOffset + size).toBeLessThanOrEqual(spans.streamSize);
    }
  }
}

const times = rounds(10_000, 500, 0.1);

describe('damaged', () => {
  const uncompressed = writeZtoc({
    buildTool: 'peel test',
    compression: 'none',
    compressedSize: 10_240,
    uncompressedSize: 6144,
    entries: sampleEntries,
    checkpoints: writeTarZinfo({ spanSize: 4096, size: 10_240 }),
    spanSha256: sampleDigests(3),
  });

  it.each([
    ['zTOCs of gzip layers', sampleZtoc(3), 1500],
    ['zTOCs of uncompressed layers', uncompressed, 2500],
  ])('%s are refused or sound', (_, good, hot) => {
    let refused = 0;
    for (let round = 0; round < times; round++) {
      try {
        expectSound(readZtoc(mutate(good, round, hot)));
      } catch (error) {
        if (!(error instanceof IndexError)) throw new Error(`round ${round}`, { cause: error });
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(times / 10);
  });

  it('SOCI indexes are refused or sound', () => {
    const { manifest } = createSociIndex({
      subject: {
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        digest: digestFromSha256(sampleDigest('s')),
        size: 5,
      },
      buildTool: 'peel test',
      ztocs: ['a', 'b'].map((layer) => ({
        layer: { digest: digestFromSha256(sampleDigest(layer)), mediaType: 'application/vnd.oci.image.layer.v1.tar' },
        ztoc: Buffer.from(layer),
        spanSize: 1 << 20,
      })),
    });
    for (let round = 0; round < times; round++) {
      try {
        for (const { ztoc } of readSociIndex(mutate(manifest.bytes, round, 500)).layers) {
          expect(ztoc.digest).toMatch(/^sha(256|512):/);
        }
      } catch (error) {
        if (!(error instanceof IndexError)) throw new Error(`round ${round}`, { cause: error });
      }
    }
  });

  it('node index files are refused, or as they were', async () => {
    const file = path.join(tempDir(), 'index');
    const encoded = await encodeNodeIndex(readZtoc(sampleZtoc(3)), { format: 'node', source: 'a test' });
    const good = Buffer.concat(encoded.pieces);
    const files = Math.ceil(times / 10);
    for (let round = 0; round < files; round++) {
      await writeFile(file, mutate(good, round, 400));
      try {
        const index = await openNodeIndex(file);
        try {
          await index.verify();
          expect(Buffer.from(index.fingerprint)).toEqual(Buffer.from(encoded.fingerprint));
          expectSound(index);
        } finally {
          await index.close();
        }
      } catch (error) {
        if (!(error instanceof IndexError)) throw new Error(`round ${round}`, { cause: error });
      }
    }
  });
});
