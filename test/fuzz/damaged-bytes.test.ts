// Damaged blob bytes and windows under a table that is right: on their way into the block cache, and through the builder's pass.
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { windowSize } from '../../src/index/span-columns.ts';
import { setInflateBackend } from '../../src/native/layer-cache.ts';
import { StreamIndexer } from '../../src/native/stream-indexer.ts';
import { mutate, random } from '../support/damage.ts';
import { keptTempDir } from '../support/tmp.ts';
import { codeOf, makeTruths, openCache, pick, sameBytes, spanErrors, times, type Truth } from './damaged-layers.ts';

const scratch = keptTempDir();
let truths: Truth[];
beforeAll(async () => {
  truths = await makeTruths();
});
afterAll(() => scratch[Symbol.dispose]());

describe('damaged bytes', () => {
  it('of a span are refused when it has a digest, and never give more or less than the span', async () => {
    const truth = truths[0] as Truth;
    const { spans } = truth.build;
    for (let seed = 0; seed < times(2000); seed++) {
      setInflateBackend(seed % 4 < 2 ? 'isal' : 'zlib');
      const below = random(seed);
      const span = spans.span(below(spans.count));
      const dir = path.join(scratch.path, 'bytes');
      const cache = await openCache(spans, dir);
      if (cache === undefined) throw new Error('the table is fine');
      try {
        const good = truth.blob.subarray(span.blobStart, span.blobEnd);
        const data = mutate(good, seed, 64);
        const known = (await spans.window(span.index)) ?? Buffer.alloc(0);
        const window =
          below(2) === 0
            ? mutate(Buffer.concat([known, Buffer.of(0)]), seed, windowSize).subarray(0, below(windowSize + 1))
            : known;
        const decoder = pick(['gzip-checkpoint', 'gzip-checkpoint', 'gzip-member', 'stored'] as const, below);
        const request = {
          span: span.index,
          decoder,
          bits: below(8),
          data,
          window,
          openEnded: span.index === spans.count - 1,
        };
        const checked = await codeOf(cache.decode({ ...request, sha256: span.sha256 }), spanErrors);
        if (!sameBytes(data, good)) expect(checked).toBe('ERR_SPAN_DIGEST');
        const work = cache.decode({ ...request, sha256: undefined });
        if ((await codeOf(work, spanErrors)) === undefined) {
          expect(await work).toBeGreaterThanOrEqual(span.streamEnd - span.streamStart);
          expect(await cache.verify(span.index)).toBe(true);
        }
        expect(cache.presentSpans).toBeLessThanOrEqual(1);
      } catch (cause) {
        throw new Error(`round ${seed}`, { cause });
      } finally {
        await cache.close();
        rmSync(dir, { recursive: true, force: true });
      }
    }
  }, 600_000);

  it('of a blob stop its indexing, or give the digests of what came out', async () => {
    const codes = new Set(['ERR_INDEX_INFLATE', 'ERR_INDEX_TRAILING', 'ERR_INDEX_TRUNCATED', 'ERR_CLOSED']);
    for (let seed = 0; seed < times(2000); seed++) {
      const below = random(seed);
      const { blob } = pick(truths, below);
      const data = mutate(blob, seed, 200);
      const indexer = new StreamIndexer({
        format: below(4) === 0 ? 'stored' : 'gzip',
        spanSize: 1 + below(50_000),
        dataFd: -1,
      });
      const hash = createHash('sha256');
      let size = 0;
      const closeAt = below(8) === 0 ? below(data.length) : Infinity;
      const pass = async () => {
        for (let at = 0; at < data.length; ) {
          const next = at + 1 + below(60_000);
          const pushed = indexer.push(data.subarray(at, next), (bytes) => {
            hash.update(bytes);
            size += bytes.length;
          });
          if (next > closeAt) indexer.close();
          await pushed;
          at = next;
        }
        return indexer.finish();
      };
      try {
        const index = await pass();
        expect(index.streamSize).toBe(size);
        expect(sameBytes(index.streamSha256, hash.digest())).toBe(true);
        expect(sameBytes(index.blobSha256, createHash('sha256').update(data).digest())).toBe(true);
        expect(index.spanSha256.length).toBe(32 * index.in.length);
      } catch (error) {
        if (!codes.has((error as { code?: string }).code ?? '')) throw new Error(`round ${seed}`, { cause: error });
      } finally {
        indexer.close();
      }
    }
  }, 600_000);
});
