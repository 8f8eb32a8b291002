import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ZstdFrameSpans } from '../../src/index/zstd-frame-spans.ts';
import { rounds } from '../support/fixtures.ts';

interface Frame {
  readonly blob: number;
  readonly stream: number;
}

const frames = fc.array(fc.record({ blob: fc.integer({ min: 1, max: 40 }), stream: fc.integer({ min: 0, max: 30 }) }), {
  minLength: 1,
  maxLength: 30,
});

/** The rule, frame by frame: [blob offset, stream offset] of every span. */
function expected(list: readonly Frame[], spanSize: number): [number, number][] {
  const starts: [number, number][] = [[0, 0]];
  let [blob, stream] = [0, 0];
  let next: [number, number] | undefined;
  for (const frame of list) {
    if (frame.stream > 0 && next !== undefined) {
      starts.push(next);
      next = undefined;
    }
    blob += frame.blob;
    stream += frame.stream;
    if (next === undefined && stream - (starts.at(-1)?.[1] ?? 0) > spanSize) next = [blob, stream];
  }
  return starts;
}

/** As a decoder does it: blob bytes first, what they give later, the end of the frame with the last of both. */
function cut(list: readonly Frame[], blob: Uint8Array, spanSize: number, pieces: number) {
  const spans = new ZstdFrameSpans(spanSize);
  let at = 0;
  for (const frame of list) {
    const end = at + frame.blob;
    for (let i = 1; i <= pieces; i++) {
      const upTo = i === pieces ? end : Math.min(end, at + Math.ceil(frame.blob / pieces));
      spans.step(blob.subarray(at, upTo), i === pieces ? frame.stream : 0, i === pieces);
      at = upTo;
    }
  }
  return spans.finish();
}

describe('ZstdFrameSpans', () => {
  it('begins a span behind more than the span size, with the frame that has the next byte', () => {
    fc.assert(
      fc.property(frames, fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 4 }), (list, spanSize, pieces) => {
        const blob = createHash('shake256', { outputLength: list.reduce((sum, frame) => sum + frame.blob, 0) })
          .update('blob')
          .digest();
        const made = cut(list, blob, spanSize, pieces);
        const holding = list.filter(({ stream }) => stream > 0).length;
        if (holding < 2) {
          expect(made.obstacle).toContain('single zstd frame');
          return;
        }
        if (made.obstacle !== undefined) throw new Error(made.obstacle);
        const starts = expected(list, spanSize);
        const { blobStarts, streamStarts, sha256 } = made.spans;
        expect([...blobStarts].map((start, i) => [start, streamStarts[i]])).toEqual(starts);
        const digests = starts.map(([start], i) =>
          createHash('sha256')
            .update(blob.subarray(start, starts[i + 1]?.[0]))
            .digest(),
        );
        expect(Buffer.concat(digests).equals(sha256)).toBe(true);
      }),
      { numRuns: rounds(2_000, 100, 0.1) },
    );
  });

  it.each<[string, Frame[], boolean]>([
    [
      '32 MiB of stream',
      [
        { blob: 9, stream: 32 << 20 },
        { blob: 9, stream: 1 },
      ],
      false,
    ],
    [
      'more than 32 MiB of stream',
      [
        { blob: 9, stream: (32 << 20) + 1 },
        { blob: 9, stream: 1 },
      ],
      true,
    ],
    [
      'more at the end',
      [
        { blob: 9, stream: 100 },
        { blob: 9, stream: (32 << 20) + 1 },
      ],
      true,
    ],
    [
      'more than 64 MiB of nothing',
      [
        { blob: 9, stream: 100 },
        { blob: (64 << 20) + 1, stream: 0 },
        { blob: 9, stream: 1 },
      ],
      true,
    ],
  ])('refuses what is too large to decode in one piece: %s', (_, list, refused) => {
    const blob = Buffer.alloc(list.reduce((sum, frame) => sum + frame.blob, 0));
    expect(cut(list, blob, 50, 1).obstacle).toBe(refused ? 'its zstd frames are too large to read in part' : undefined);
  });
});
