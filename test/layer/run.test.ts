import { describe, expect, it } from 'vitest';
import { SpanColumns } from '../../src/index/span-columns.ts';
import { chooseRun } from '../../src/layer/run.ts';
import { SpanAssembler } from '../../src/layer/span-assembler.ts';

const limits = { maxBytes: 400, maxGap: 100 };
/** Ten spans of 100 bytes. */
const starts = Float64Array.from({ length: 10 }, (_, i) => i * 100);
const spans = new SpanColumns(
  {
    decoder: 'stored',
    blobSize: 1000,
    streamSize: 1000,
    openEnded: false,
    spanSize: 100,
    streamStarts: starts,
    blobStarts: starts,
  },
  'test',
);

describe('chooseRun', () => {
  it.each([
    ['a span alone', [5], 5, [5]],
    ['neighbours on both sides', [4, 5, 6], 5, [4, 5, 6]],
    ['a gap that is small enough', [5, 7], 5, [5, 7]],
    ['no gap that is too large', [5, 8], 5, [5]],
    ['at most the limit, the later ones first', [2, 3, 4, 5, 6, 7], 4, [4, 5, 6, 7]],
    ['the first and the last span', [0, 1, 8, 9], 9, [8, 9]],
  ])('takes %s', (_, wanted, seed, run) => {
    expect(chooseRun(spans, new Set(wanted), seed, limits)).toEqual(run);
  });

  it('takes a span that is larger than the limit', () => {
    expect(chooseRun(spans, new Set([3, 4]), 3, { maxBytes: 50, maxGap: 0 })).toEqual([3]);
  });
});

describe('SpanAssembler', () => {
  const blob = Buffer.from(Array.from({ length: 100 }, (_, i) => i));

  it.each([1, 3, 7, 40, 100])('cuts spans that share a byte out of pieces of %d bytes', (size) => {
    const bytes = new SpanAssembler(10);
    const found: Uint8Array[] = [];
    const wanted: [number, number][] = [
      [10, 31],
      [30, 50],
      [60, 100],
    ];
    for (let at = 10; at < 100; at += size) {
      bytes.push(blob.subarray(at, Math.min(at + size, 100)));
      for (let next = wanted[found.length]; next !== undefined; next = wanted[found.length]) {
        const span = bytes.take(...next);
        if (span === undefined) break;
        found.push(Uint8Array.from(span));
      }
    }
    expect(found).toEqual(wanted.map(([from, to]) => Uint8Array.from(blob.subarray(from, to))));
    expect(bytes.end).toBe(100);
  });
});
