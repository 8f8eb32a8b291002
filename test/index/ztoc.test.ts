import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { writeCheckpoints } from '../../src/index/checkpoints.ts';
import { defaultIndexLimits } from '../../src/index/limits.ts';
import { writeTarZinfo } from '../../src/index/tar-zinfo.ts';
import { readZtoc } from '../../src/index/ztoc-reader.ts';
import { writeZtoc } from '../../src/index/ztoc-writer.ts';
import {
  sampleCheckpoints,
  sampleDigest,
  sampleDigests,
  sampleEntries,
  sampleEntry,
  sampleZtoc,
  text,
} from './samples.ts';

function code(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return `${(error as { code?: string }).code}: ${(error as Error).message}`;
  }
  return 'accepted';
}

describe('writeZtoc', () => {
  // Digests of what soci-snapshotter 0.11.1 marshals for the same fields.
  it.each([
    ['gzip', '35620cb20f4482aa07351842941d5811b4f4b112daa480f78e7f0a086b512725'],
    ['none', '27ceb7b3937121f258636ad5ebdb175326cb37b9058d5e1031525182e03fc67e'],
  ] as const)('writes the bytes of the SOCI builder (%s)', (compression, expected) => {
    const bytes = writeZtoc({
      buildTool: 'peel test',
      compression,
      compressedSize: 1234,
      uncompressedSize: 6144,
      entries: sampleEntries,
      checkpoints: Buffer.alloc(101, 7),
      spanSha256: Buffer.concat([sampleDigest('a'), sampleDigest('b')]),
    });
    expect(bytes.length).toBe(1568);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(expected);
  });

  it('refuses a time that has no four-digit year', () => {
    const entries = [sampleEntry({ path: text('far'), type: 'file', mtime: 253_402_300_800, dataOffset: 512 })];
    expect(code(() => sampleZtoc(3, { entries }))).toBe(
      'ERR_INDEX_UNSUPPORTED: a zTOC cannot hold the mtime 253402300800 of far',
    );
  });
});

describe('readZtoc', () => {
  it('reads back what was written', async () => {
    const ztoc = readZtoc(sampleZtoc(4), { blobSize: 500 });
    expect(ztoc.version).toBe('0.9');
    expect(ztoc.buildTool).toBe('peel test');
    expect(ztoc.entries).toEqual(
      sampleEntries.map((entry) => ({ ...entry, pax: expect.anything(), xattrs: expect.anything() })),
    );
    expect(ztoc.entries.map((entry) => [...entry.pax])).toEqual(
      sampleEntries.map((entry) =>
        [...entry.pax].sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, new Uint8Array(v)]),
      ),
    );
    expect([...(ztoc.entries[1]?.xattrs ?? [])]).toEqual([['user.bin', new Uint8Array([0xff, 0, 0xfe])]]);
    expect(ztoc.spans).toMatchObject({ count: 4, blobSize: 500, streamSize: 11_500, openEnded: true, spanSize: 2048 });
    expect(ztoc.spans.span(3)).toEqual({
      index: 3,
      blobStart: 317,
      blobEnd: 500,
      streamStart: 9000,
      streamEnd: 11_500,
      decoder: 'gzip-checkpoint',
      bits: 3,
      sha256: new Uint8Array(sampleDigest('span 3')),
    });
    expect(ztoc.spans.span(0)).toMatchObject({ blobStart: 18, blobEnd: 118, bits: 0 });
    expect(await ztoc.spans.window(0)).toBeUndefined();
    expect(Buffer.from((await ztoc.spans.window(2)) ?? []).toString('latin1', 0, 9)).toBe('window 2 ');
  });

  it('finds the span of every offset', () => {
    const { spans } = readZtoc(sampleZtoc(7));
    for (const offset of [0, 1, 2999, 3000, 3001, 17_999, 18_000, spans.streamSize - 1]) {
      expect(spans.spanAt(offset)).toBe(Math.floor(offset / 3000));
    }
    for (const offset of [-1, spans.streamSize, Number.NaN, 1e300])
      expect(() => spans.spanAt(offset)).toThrow(RangeError);
  });

  it('reads checkpoints of version 1', () => {
    const table = writeCheckpoints({ ...sampleCheckpoints(3), in: Float64Array.of(10, 118, 218) });
    const version1 = Buffer.concat([table.subarray(0, 12), table.subarray(12 + 32_785)]);
    const { spans } = readZtoc(sampleZtoc(3, { checkpoints: version1 }));
    expect([0, 1, 2].map((i) => spans.span(i).blobStart)).toEqual([10, 117, 217]);
    expect(spans.count).toBe(3);
  });

  it('reads a layer without compression', () => {
    const bytes = writeZtoc({
      buildTool: '',
      compression: 'none',
      compressedSize: 10_240,
      uncompressedSize: 6144,
      entries: sampleEntries,
      checkpoints: writeTarZinfo({ spanSize: 4096, size: 10_240 }),
      spanSha256: sampleDigests(3),
    });
    const { spans } = readZtoc(bytes);
    expect(spans).toMatchObject({ count: 3, streamSize: 10_240, blobSize: 10_240, openEnded: false });
    expect(spans.span(2)).toMatchObject({ blobStart: 8192, blobEnd: 10_240, streamStart: 8192, decoder: 'stored' });
  });

  it('takes the stream to go on for as long as there are checkpoints', () => {
    const bytes = writeZtoc({
      buildTool: '',
      compression: 'gzip',
      compressedSize: 400,
      uncompressedSize: 6144,
      entries: sampleEntries,
      checkpoints: writeCheckpoints({ ...sampleCheckpoints(3), out: Float64Array.of(0, 3000, 9000) }),
      spanSha256: sampleDigests(3),
    });
    const { spans } = readZtoc(bytes);
    expect(spans.streamSize).toBe(9000);
    expect(spans.span(2)).toMatchObject({ streamStart: 9000, streamEnd: 9000 });
    expect(spans.spanAt(8999)).toBe(1);
  });

  it('is told when it is for another blob', () => {
    expect(code(() => readZtoc(sampleZtoc(3), { blobSize: 401 }))).toBe(
      'ERR_INDEX_MISMATCH: zTOC is for a layer blob of 400 bytes, not of 401',
    );
  });
});

describe('readZtoc refuses', () => {
  const patched = (patch: (table: DataView) => void): string => {
    const table = writeCheckpoints(sampleCheckpoints(3));
    patch(new DataView(table.buffer));
    return code(() => readZtoc(sampleZtoc(3, { checkpoints: table })));
  };
  const at = (span: number): number => 12 + 32_785 * span;

  it.each<[string, string, string]>([
    [
      'no checkpoints',
      patched((t) => t.setInt32(0, 0, true)),
      'ERR_INDEX_FORMAT: checkpoint table says it has 0 checkpoints',
    ],
    [
      'a negative number of them',
      patched((t) => t.setInt32(0, -1, true)),
      'ERR_INDEX_FORMAT: checkpoint table says it has -1 checkpoints',
    ],
    [
      'an absurd number of them',
      patched((t) => t.setInt32(0, 2 ** 31 - 1, true)),
      'ERR_INDEX_LIMIT: number of checkpoints is 2147483647',
    ],
    [
      'a number whose size overflows 32 bits',
      patched((t) => t.setInt32(0, 131_005, true)),
      'ERR_INDEX_FORMAT: checkpoint table of 98367 bytes cannot hold 131005',
    ],
    [
      'a length for neither version',
      patched((t) => t.setInt32(0, 5, true)),
      'ERR_INDEX_FORMAT: checkpoint table of 98367 bytes cannot hold 5',
    ],
    [
      'one digest too few',
      patched((t) => t.setInt32(0, 4, true)),
      'ERR_INDEX_FORMAT: zTOC has 4 checkpoints but 3 span digests',
    ],
    [
      'blob offsets that descend',
      patched((t) => t.setInt32(at(1), 5, true)),
      'ERR_INDEX_FORMAT: zTOC: span 0 ends at blob offset 5 but starts at 18',
    ],
    [
      'blob offsets that repeat',
      patched((t) => t.setInt32(at(1), 18, true)),
      'ERR_INDEX_FORMAT: zTOC: span 0 ends at blob offset 18 but starts at 18',
    ],
    [
      'stream offsets that descend',
      patched((t) => t.setInt32(at(2) + 8, 1, true)),
      'ERR_INDEX_FORMAT: zTOC: span 1 ends at stream offset 1 but starts at 3000',
    ],
    [
      'stream offsets that repeat',
      patched((t) => t.setInt32(at(2) + 8, 3000, true)),
      'ERR_INDEX_FORMAT: zTOC: span 1 ends at stream offset 3000',
    ],
    [
      'a first span in the middle',
      patched((t) => t.setInt32(at(0) + 8, 1, true)),
      'ERR_INDEX_FORMAT: zTOC: the first span starts at 1',
    ],
    [
      'an offset behind the blob',
      patched((t) => t.setInt32(at(2), 400, true)),
      'ERR_INDEX_FORMAT: zTOC: span 2 ends at blob offset 400 but starts at 400',
    ],
    [
      'a negative offset',
      patched((t) => t.setInt32(at(2) + 4, -1, true)),
      'ERR_INDEX_FORMAT: checkpoint 2: blob offset is -',
    ],
    [
      'an offset beyond 2^53',
      patched((t) => t.setInt32(at(2) + 12, 2 ** 30, true)),
      'ERR_INDEX_FORMAT: checkpoint 2: stream offset is ',
    ],
    [
      'more stream than deflate can hold',
      patched((t) => t.setInt32(at(2) + 8, 2 ** 30, true)),
      'ERR_INDEX_FORMAT: zTOC: span 1 claims 1073738824 bytes out of 101',
    ],
    [
      'eight bits',
      patched((t) => t.setUint8(at(2) + 16, 8)),
      'ERR_INDEX_FORMAT: checkpoint 2: 8 bits, but a byte has 8',
    ],
  ])('%s', (_, found, expected) => {
    expect(found).toContain(expected);
  });

  it('entries that overlap', () => {
    const entries = [
      sampleEntry({ path: text('a'), type: 'file', size: 1000, dataOffset: 512 }),
      sampleEntry({ path: text('b'), type: 'file', size: 10, dataOffset: 1536 }),
    ];
    expect(code(() => readZtoc(sampleZtoc(3, { entries })))).toBe(
      'ERR_INDEX_FORMAT: zTOC entry b: its header would be 0 bytes at stream offset 1536',
    );
  });

  it('entries at offsets where no tar has them', () => {
    const entries = [sampleEntry({ path: text('a'), type: 'file', dataOffset: 700 })];
    expect(code(() => readZtoc(sampleZtoc(3, { entries })))).toContain('zTOC entry a: its header would be 700 bytes');
  });

  it('entries that leave the stream', () => {
    const entries = [sampleEntry({ path: text('a'), type: 'file', size: 8000, dataOffset: 512 })];
    expect(code(() => readZtoc(sampleZtoc(3, { entries })))).toBe(
      "ERR_INDEX_FORMAT: zTOC entry a: its data ends at 8512, behind the stream's 8500 bytes",
    );
  });

  it('sparse files', () => {
    const pax = new Map([[text('GNU.sparse.realsize'), Buffer.from('5')]]);
    const entries = [sampleEntry({ path: text('a'), type: 'file', size: 5, pax, dataOffset: 512 })];
    expect(code(() => readZtoc(sampleZtoc(3, { entries })))).toContain(
      'ERR_INDEX_UNSUPPORTED: zTOC entry a: its PAX records say it is sparse',
    );
  });

  it.each([0, 1, 3, 4, 8, 40, 300, 1000])('a zTOC cut after %i bytes', (length) => {
    expect(code(() => readZtoc(sampleZtoc(3).subarray(0, length)))).toMatch(/^ERR_INDEX_FORMAT: zTOC: /);
  });

  it('what exceeds the limits', () => {
    const limited = (limits: Partial<typeof defaultIndexLimits>): string =>
      code(() => readZtoc(sampleZtoc(3), { limits: { ...defaultIndexLimits, ...limits } }));
    expect(limited({ blobBytes: 1000 })).toContain('ERR_INDEX_LIMIT: size of zTOC is');
    expect(limited({ entries: 5 })).toBe('ERR_INDEX_LIMIT: number of zTOC entries is 6, more than the limit of 5');
    expect(limited({ spans: 2 })).toBe('ERR_INDEX_LIMIT: number of checkpoints is 3, more than the limit of 2');
    expect(limited({ nameBytes: 3 })).toBe(
      'ERR_INDEX_LIMIT: zTOC entry ./: length of owner is 4, more than the limit of 3',
    );
    expect(limited({ paxRecords: 2 })).toContain('b\\xff\\xfe: number of PAX records is 3');
    expect(limited({ paxBytes: 10 })).toContain(': size of PAX records is ');
    expect(limited({ streamBytes: 100 })).toContain('ERR_INDEX_LIMIT: zTOC: stream size is');
  });
});
