import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IndexError } from '../../src/index/errors.ts';
import { defaultIndexLimits, type IndexLimits } from '../../src/index/limits.ts';
import { tableDecoders } from '../../src/index/peel-table-format.ts';
import { type PeelTable, readPeelTable } from '../../src/index/peel-table-reader.ts';
import { type PeelTableInit, writePeelTable } from '../../src/index/peel-table-writer.ts';
import { SpanColumns } from '../../src/index/span-columns.ts';
import { digestFromSha256, parseDigest } from '../../src/oci/digest.ts';
import { mutate } from '../support/damage.ts';
import { rounds } from '../support/fixtures.ts';
import { sampleDigest, sampleDigests, samplePeelTable } from './samples.ts';

const times = rounds(10_000, 500, 0.1);
const columnsAt = 136;

/** With the checksum that its bytes should have. */
function sealed(table: Uint8Array): Buffer {
  const bytes = Buffer.from(table);
  if (bytes.length > 32)
    createHash('sha256')
      .update(bytes.subarray(0, -32))
      .digest()
      .copy(bytes, bytes.length - 32);
  return bytes;
}

function spliced(table: Buffer, at: number, remove: number, ...insert: number[]): Buffer {
  return Buffer.concat([table.subarray(0, at), Buffer.from(insert), table.subarray(at + remove)]);
}

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (!(error instanceof IndexError)) throw error;
    return `${error.code}: ${error.message}`;
  }
  return 'accepted';
}

function expectEqual(table: PeelTable, init: PeelTableInit): void {
  expect([table.layer, table.diffId]).toEqual([init.layer, init.diffId]);
  expect(Buffer.from(table.tree).equals(init.tree)).toBe(true);
  for (const field of ['decoder', 'count', 'blobSize', 'streamSize', 'openEnded', 'spanSize'] as const) {
    expect(table.spans[field], field).toBe(init.spans[field]);
  }
  let at = 0;
  for (let i = 0; i < init.spans.count; i++) {
    const { sha256, ...span } = table.spans.span(i);
    const { sha256: expected, ...rest } = init.spans.span(i);
    expect(span).toEqual(rest);
    expect(Buffer.from(sha256 ?? []).equals(Buffer.from(expected ?? []))).toBe(true);
    expect(table.windows.offsets[i]).toBe(at);
    at += init.windows.lengths[i] as number;
  }
  expect(table.windows.size).toBe(at);
  expect(table.windows.lengths).toEqual(init.windows.lengths);
  expect(Buffer.from(table.windows.sha256).equals(init.windows.sha256)).toBe(true);
}

const tableInit = fc
  .record({
    decoder: fc.constantFrom(...tableDecoders),
    spans: fc.array(
      fc.record({
        stream: fc.oneof(fc.integer({ min: 1, max: 2 ** 20 }), fc.integer({ min: 1, max: 2 ** 36 })),
        blob: fc.integer({ min: 1, max: 300 }),
        bits: fc.integer({ min: 0, max: 7 }),
        window: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 33_280 })),
      }),
      { minLength: 1, maxLength: 40 },
    ),
    start: fc.integer({ min: 10, max: 500 }),
    spanSize: fc.maxSafeNat(),
    seed: fc.string(),
    tree: fc.uint8Array({ minLength: 1, maxLength: 3000 }),
  })
  .map(({ decoder, spans, start, spanSize, seed, tree }): PeelTableInit => {
    const gzip = decoder === 'gzip-checkpoint';
    const digests = (name: string) =>
      Buffer.concat(spans.map((_, i) => createHash('sha256').update(`${name} ${seed} ${i}`).digest()));
    const starts = (first: number, lengths: number[]) => {
      const all = [first];
      for (const length of lengths) all.push((all.at(-1) as number) + length);
      return { starts: Float64Array.from(all.slice(0, -1)), end: all.at(-1) as number };
    };
    const stream = starts(
      0,
      spans.map((span) => span.stream),
    );
    // What deflate and zstd can hold at most.
    const blob = starts(
      gzip ? start : 0,
      spans.map((span) => span.blob + Math.ceil(span.stream / 1000)),
    );
    const stored = decoder === 'stored';
    const lengths = Uint32Array.from(spans, (span, i) => (gzip && i > 0 ? span.window : 0));
    const windowDigests = digests('window').map((byte, i) => (lengths[i >> 5] === 0 ? 0 : byte));
    return {
      layer: digestFromSha256(sampleDigest(`layer ${seed}`)),
      diffId: digestFromSha256(sampleDigest(`stream ${seed}`)),
      spans: new SpanColumns(
        {
          decoder,
          blobSize: stored ? stream.end : blob.end,
          streamSize: stream.end,
          openEnded: false,
          spanSize,
          streamStarts: stream.starts,
          blobStarts: stored ? stream.starts : blob.starts,
          bits: gzip ? Uint8Array.from(spans, (span) => span.bits) : undefined,
          sha256: digests('span'),
        },
        'property',
      ),
      windows: { lengths, sha256: windowDigests },
      tree,
    };
  });

describe('a peel table', () => {
  it('comes back as it was written, in the same bytes when made again', () => {
    fc.assert(
      fc.property(tableInit, (init) => {
        const bytes = writePeelTable(init);
        const table = readPeelTable(bytes);
        expectEqual(table, init);
        expect(Buffer.from(writePeelTable(table)).equals(bytes)).toBe(true);
      }),
      { numRuns: rounds(500, 60, 0.2) },
    );
  });

  it('takes little more than 32 bytes a span, and 32 more for a window', () => {
    const sizes = [1000, 2000].map((count) => writePeelTable(samplePeelTable('gzip-checkpoint', count)).length);
    expect(((sizes[1] as number) - (sizes[0] as number)) / 1000).toBeLessThan(32 + 6 + 32 / 3);
  });

  it.each(tableDecoders)('of %s spans is refused wherever it is cut, and with one byte more', (decoder) => {
    const table = Buffer.from(writePeelTable(samplePeelTable(decoder)));
    for (let length = 0; length < table.length; length++) {
      const cut = table.subarray(0, length);
      expect(refusal(() => readPeelTable(cut))).toContain('ERR_INDEX_FORMAT');
      // Of the shortest ones the checksum takes the place of the version.
      expect(refusal(() => readPeelTable(sealed(cut)))).toMatch(length < 44 ? /^ERR_INDEX_/ : /^ERR_INDEX_FORMAT/);
    }
    expect(refusal(() => readPeelTable(sealed(spliced(table, table.length - 32, 0, 0))))).toContain('ERR_INDEX_FORMAT');
  });

  it('is refused with any bit flipped', () => {
    const table = Buffer.from(writePeelTable(samplePeelTable()));
    for (let bit = 0; bit < 8 * table.length; bit++) {
      const bytes = Buffer.from(table);
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit % 8));
      expect(
        refusal(() => readPeelTable(bytes)),
        `bit ${bit}`,
      ).toMatch(/^ERR_INDEX_(FORMAT|VERSION|CHECKSUM)/);
    }
  });

  it.each(tableDecoders)('of %s spans, damaged at random, is refused or as it was', (decoder) => {
    const init = samplePeelTable(decoder);
    const good = Buffer.from(writePeelTable(init));
    let refused = 0;
    for (let round = 0; round < times; round++) {
      const bytes = mutate(good, round, 400);
      if (refusal(() => readPeelTable(bytes)) !== 'accepted') refused++;
      else expect(bytes.equals(good), `round ${round}`).toBe(true);
    }
    expect(refused).toBeGreaterThan(0.9 * times);
  });

  it.each(tableDecoders)('of %s spans, forged at random, is refused or has one way to be written', (decoder) => {
    const good = Buffer.from(writePeelTable(samplePeelTable(decoder)));
    const accepted = { same: 0, other: 0 };
    for (let round = 0; round < times; round++) {
      const bytes = sealed(mutate(good, round, 300));
      const outcome = { table: undefined as PeelTable | undefined };
      const refused = refusal(() => (outcome.table = readPeelTable(bytes)));
      if (outcome.table === undefined) {
        expect(refused, `round ${round}`).toMatch(/^ERR_INDEX_/);
        continue;
      }
      const again = Buffer.from(writePeelTable(outcome.table));
      // zstd has many ways to write one tree; everything before it has one, but for the tree's compressed size.
      const treeAt = bytes.length - 32 - Number(bytes.readBigUInt64LE(120));
      for (const part of [
        [0, 120],
        [128, treeAt],
      ] as const) {
        expect(again.subarray(...part).equals(bytes.subarray(...part)), `round ${round}`).toBe(true);
      }
      accepted[bytes.equals(good) ? 'same' : 'other']++;
    }
    expect(accepted.other).toBeGreaterThan(times / 100);
  });
});

type Change = (table: Buffer) => Buffer | void;

describe('readPeelTable', () => {
  const gzip = samplePeelTable();
  // 3 numbers of two bytes, 4 of one, 4 bytes of bits, 4 numbers.
  const at = { blob: columnsAt + 6, bits: columnsAt + 10, windows: columnsAt + 14, digests: columnsAt + 18 };

  it.each<[string, Change, string]>([
    ['another kind of file', (t) => void t.write('PEEL'), 'ERR_INDEX_FORMAT: not a peel table'],
    ['version 0', (t) => void t.writeUInt32LE(0, 8), 'ERR_INDEX_VERSION: peel table has version 0'],
    ['version 2', (t) => void t.writeUInt32LE(2, 8), 'ERR_INDEX_VERSION: peel table has version 2'],
    ['an unknown decoder', (t) => void t.writeUInt32LE(3, 12), 'ERR_INDEX_FORMAT: peel table names the unknown'],
    ['another decoder', (t) => void t.writeUInt32LE(2, 12), 'ERR_INDEX_FORMAT: peel table has 1 windows for 4 zstd'],
    ['a blob size past 2^53', (t) => void t.writeBigUInt64LE(2n ** 53n, 80), 'ERR_INDEX_FORMAT: blob size'],
    ['a stream of 17 TiB', (t) => void t.writeBigUInt64LE(17n << 40n, 88), 'ERR_INDEX_LIMIT: peel table: stream size'],
    [
      'a stream that ends early',
      (t) => void t.writeBigUInt64LE(8999n, 88),
      'ERR_INDEX_FORMAT: peel table: span 3 ends',
    ],
    ['a blob that ends early', (t) => void t.writeBigUInt64LE(318n, 80), 'ERR_INDEX_FORMAT: peel table: span 3 ends'],
    ['many spans', (t) => void t.writeUInt32LE(0xffff_ffff, 104), 'ERR_INDEX_FORMAT: peel table states 1374'],
    ['many windows', (t) => void t.writeUInt32LE(0xffff_ffff, 108), 'ERR_INDEX_FORMAT: peel table states 1374'],
    ['a tree as large as can be', (t) => void t.writeBigUInt64LE(2n ** 53n - 1n, 120), 'ERR_INDEX_FORMAT: peel table'],
    ['a tree of 513 MiB', (t) => void t.writeBigUInt64LE(513n << 20n, 128), 'ERR_INDEX_LIMIT: size of tree'],
    ['a tree of no bytes', (t) => void t.writeBigUInt64LE(0n, 128), 'ERR_INDEX_FORMAT: peel table claims a tree of 0'],
    [
      'more tree than zstd can hold',
      (t) => void t.writeBigUInt64LE(64n << 20n, 128),
      'claims a tree of 67108864 bytes',
    ],
    [
      'a tree one byte shorter',
      (t) => void t.writeBigUInt64LE(299n, 128),
      'tree of peel table cannot be decoded to 299',
    ],
    ['a tree one byte longer', (t) => void t.writeBigUInt64LE(301n, 128), 'decodes to 300 bytes instead of 301'],
    ['9 bits', (t) => void (t[at.bits + 1] = 9), 'ERR_INDEX_FORMAT: peel table: span 1 has 9 bits'],
    ['spans of no bytes', (t) => void t.fill(Buffer.from([0x80, 0x00]), columnsAt, columnsAt + 2), 'leading zeros'],
    [
      'a window of 33 281 bytes',
      (t) => {
        const long = spliced(t, at.windows + 1, 1, 0x81, 0x84, 0x02);
        long.writeBigUInt64LE(20n, 112);
        return long;
      },
      'ERR_INDEX_LIMIT: window of span 1',
    ],
    [
      'a window of the first span',
      (t) => void (t[at.windows] = 1),
      'ERR_INDEX_FORMAT: peel table has a window for the',
    ],
    ['a window more than stated', (t) => void (t[at.windows + 2] = 1), 'ERR_INDEX_FORMAT: peel table states 1 windows'],
    ['a window less than stated', (t) => void (t[at.windows + 1] = 0), 'ERR_INDEX_FORMAT: peel table states 1 windows'],
    [
      'columns that are too long',
      (t) => {
        const long = spliced(t, at.digests, 0, 0);
        long.writeBigUInt64LE(19n, 112);
        return long;
      },
      'ERR_INDEX_FORMAT: peel table has more columns',
    ],
    [
      'columns that are too short',
      (t) => {
        const short = spliced(t, at.digests - 1, 1);
        short.writeBigUInt64LE(17n, 112);
        return short;
      },
      'ERR_INDEX_FORMAT: columns of peel table ends',
    ],
  ])('refuses %s', (_, change, expected) => {
    const table = Buffer.from(writePeelTable(gzip));
    const changed = sealed(change(table) ?? table);
    expect(refusal(() => readPeelTable(changed))).toContain(expected);
  });

  it('refuses zstd frames that do not start with the blob, and more than they can hold', () => {
    const table = Buffer.from(writePeelTable(samplePeelTable('zstd-frame')));
    const late = Buffer.from(table);
    late[at.blob] = 1;
    expect(refusal(() => readPeelTable(sealed(late)))).toContain('the first zstd frame starts at blob offset 1');
    const dense = Buffer.from(table);
    dense.writeBigUInt64LE(9000n + 201n * 32_768n + 1n, 88);
    expect(refusal(() => readPeelTable(sealed(dense)))).toContain('more than zstd can hold');
    dense.writeBigUInt64LE(9000n + 201n * 32_768n, 88);
    expect(refusal(() => readPeelTable(sealed(dense)))).toBe('accepted');
  });

  it('refuses a stored layer whose blob is not its stream', () => {
    const table = Buffer.from(writePeelTable(samplePeelTable('stored')));
    for (const size of [0n, 11_499n, 11_501n]) {
      table.writeBigUInt64LE(size, 80);
      expect(refusal(() => readPeelTable(sealed(table)))).toContain(`states ${size} bytes of blob and 11500 of stream`);
    }
  });

  it('refuses a table without spans', () => {
    const table = Buffer.from(writePeelTable(samplePeelTable('stored', 1)));
    table.writeUInt32LE(0, 104);
    const bytes = sealed(spliced(table, columnsAt, 32));
    expect(refusal(() => readPeelTable(bytes))).toBe('ERR_INDEX_FORMAT: peel table has no spans');
  });

  it.each<[string, Partial<IndexLimits>, string]>([
    ['bytes', { blobBytes: 300 }, 'size of peel table is'],
    ['spans', { spans: 3 }, 'number of spans in peel table is 4'],
    ['stream', { streamBytes: 11_499 }, 'peel table: stream size is 11500'],
    ['tree', { treeBytes: 299 }, 'size of tree in peel table is 300'],
  ])('keeps the limit of %s', (_, limit, expected) => {
    const limits = { ...defaultIndexLimits, ...limit };
    const message = refusal(() => readPeelTable(writePeelTable(gzip), { limits }));
    expect(message).toContain(`ERR_INDEX_LIMIT: ${expected}`);
  });

  it('takes no memory for what a forged header claims', () => {
    const table = Buffer.from(writePeelTable({ ...gzip, tree: Buffer.alloc(1 << 20) }));
    // As much as so many bytes could hold; they hold less.
    table.writeBigUInt64LE(table.readBigUInt64LE(120) * 32_768n, 128);
    const before = process.memoryUsage().rss;
    expect(refusal(() => readPeelTable(sealed(table)))).toContain('instead of');
    expect(process.memoryUsage().rss - before).toBeLessThan(8 << 20);
  });
});

describe('writePeelTable', () => {
  const init = samplePeelTable();
  const spansWith = (fields: Partial<ConstructorParameters<typeof SpanColumns>[0]>) =>
    new SpanColumns(
      {
        decoder: 'gzip-checkpoint',
        blobSize: 500,
        streamSize: 3000,
        openEnded: false,
        spanSize: 2048,
        streamStarts: new Float64Array([0]),
        blobStarts: new Float64Array([18]),
        sha256: sampleDigests(1),
        ...fields,
      },
      'test',
    );
  const none = { lengths: new Uint32Array(1), sha256: new Uint8Array(32) };

  it.each<[string, Partial<PeelTableInit>, string]>([
    ['a sha512 digest', { layer: parseDigest(`sha512:${'0'.repeat(128)}`) }, 'cannot describe what is named sha512:'],
    ['one sequential span', { spans: spansWith({ decoder: 'sequential' }), windows: none }, 'of the kind sequential'],
    ['an open end', { spans: spansWith({ openEnded: true }), windows: none }, 'whose end is not known'],
    ['a late first frame', { spans: spansWith({ decoder: 'zstd-frame' }), windows: none }, 'starts at blob offset 18'],
    ['no digests', { spans: spansWith({ sha256: undefined }), windows: none }, 'span 0 has no digest'],
    ['windows for other spans', { windows: none }, '1 windows and 32 bytes of digests for 4 spans'],
    [
      'a window of the first span',
      { spans: spansWith({}), windows: { ...none, lengths: new Uint32Array([9]) } },
      'span 0',
    ],
    ['no tree', { tree: new Uint8Array(0) }, 'a table needs a tree'],
  ])('refuses %s', (_, fields, expected) => {
    expect(() => writePeelTable({ ...init, ...fields })).toThrow(expected);
  });
});
