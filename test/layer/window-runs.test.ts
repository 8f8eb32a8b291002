import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { around, chooseWindowRuns, groupFrames } from '../../src/layer/window-runs.ts';
import type { FrameTable } from '../../src/layer/window-runs.ts';
import { rounds } from '../support/fixtures.ts';

const limits = { maxGap: 100, minBytes: 100, maxBytes: 1000 };

function table(lengths: readonly number[]): FrameTable {
  const starts = [0];
  for (const length of lengths) starts.push((starts.at(-1) ?? 0) + length);
  return {
    count: lengths.length,
    start: (frame) => starts[frame] as number,
    end: (frame) => starts[frame + 1] as number,
  };
}

const even = table(Array.from({ length: 100 }, () => 30));

describe('runs of frames', () => {
  it('merge over small gaps and not over large ones', () => {
    expect(groupFrames(even, [1, 2, 5, 9], limits)).toEqual([[1, 2, 5, 9]]);
    expect(groupFrames(even, [1, 2, 7, 9], limits)).toEqual([
      [1, 2],
      [7, 9],
    ]);
  });

  it('end where a request would be too large', () => {
    const all = Array.from({ length: 100 }, (_, i) => i);
    expect(groupFrames(even, all, limits).map((run) => run.length)).toEqual([33, 33, 33, 1]);
  });

  it('take along what lies between and is free', () => {
    expect(chooseWindowRuns(even, [1, 4], (frame) => frame === 2, limits)).toEqual([[1, 2, 4]]);
  });

  it('are widened to what a request is worth, forwards first', () => {
    expect(chooseWindowRuns(even, [10], () => true, limits)).toEqual([[10, 11, 12, 13]]);
    expect(chooseWindowRuns(even, [98], () => true, limits)).toEqual([[96, 97, 98, 99]]);
    expect(chooseWindowRuns(even, [10], (frame) => frame < 12, limits)).toEqual([[8, 9, 10, 11]]);
    expect(chooseWindowRuns(even, [10], () => false, limits)).toEqual([[10]]);
  });

  it('look at frames as far as one could be widened', () => {
    expect(around(even, { first: 10, last: 12 }, limits)).toEqual({ first: 7, last: 15 });
    expect(around(even, { first: 1, last: 98 }, limits)).toEqual({ first: 0, last: 99 });
  });

  it('bring each wanted frame once, nothing that is not free, and never a frame twice', () => {
    const frames = fc.array(
      fc.record({ length: fc.integer({ min: 1, max: 200 }), wanted: fc.boolean(), free: fc.boolean() }),
      {
        minLength: 1,
        maxLength: 60,
      },
    );
    fc.assert(
      fc.property(frames, (made) => {
        const blob = table(made.map(({ length }) => length));
        const wanted = made.flatMap(({ wanted: isWanted }, i) => (isWanted ? [i] : []));
        const runs = chooseWindowRuns(blob, wanted, (frame) => made[frame]?.free === true, limits);
        const brought = runs.flat();
        expect(new Set(brought).size).toBe(brought.length);
        expect(brought.filter((frame) => made[frame]?.wanted)).toEqual(wanted);
        for (const frame of brought) expect(made[frame]?.wanted === true || made[frame]?.free === true).toBe(true);
        for (const run of runs) {
          expect(run).toEqual(run.toSorted((a, b) => a - b));
          const asked = run.filter((frame) => made[frame]?.wanted);
          for (const [i, frame] of asked.slice(1).entries())
            expect(blob.start(frame) - blob.end(asked[i] as number)).toBeLessThanOrEqual(limits.maxGap);
        }
      }),
      { numRuns: rounds(2000, 200, 0.2) },
    );
  });
});
