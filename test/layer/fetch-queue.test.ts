import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SpanColumns } from '../../src/index/span-columns.ts';
import { fetchClasses, urgency } from '../../src/layer/fetch-class.ts';
import type { FetchClass } from '../../src/layer/fetch-class.ts';
import { FetchQueue } from '../../src/layer/fetch-queue.ts';
import { rounds } from '../support/fixtures.ts';

const KiB = 1 << 10;
const count = 40;
const size = 32 * KiB;
const starts = Float64Array.from({ length: count }, (_, i) => i * size);
const spans = new SpanColumns(
  {
    decoder: 'stored',
    blobSize: count * size,
    streamSize: count * size,
    openEnded: false,
    spanSize: size,
    streamStarts: starts,
    blobStarts: starts,
  },
  'test',
);
const limits = { maxBytes: 1 << 20, maxGap: 64 * KiB };

function queueOf(wanted: Partial<Record<FetchClass, readonly number[]>>): FetchQueue {
  const queue = new FetchQueue(spans);
  for (const fetchClass of fetchClasses.toReversed())
    for (const span of wanted[fetchClass] ?? []) queue.add(span, fetchClass);
  return queue;
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

describe('FetchQueue', () => {
  it('begins with the span of the class that waited longest', () => {
    const queue = queueOf({ demand: [30, 3], profile: [10] });
    expect(queue.take('demand', { limits }).queued).toEqual([30]);
    expect(queue.take('demand', { limits }).queued).toEqual([3]);
    expect(queue.take('demand', { limits }).queued).toEqual([]);
    expect(queue.size('profile')).toBe(1);
  });

  it('takes more urgent neighbours as its own, and less urgent ones a little way', () => {
    const background = queueOf({ demand: range(12, 30), background: [11] });
    expect(background.take('background', { limits }).queued).toEqual(range(11, 30));
    const demand = queueOf({ demand: [20], 'read-ahead': range(21, 24), background: range(0, 40) });
    // 128 KiB to either side.
    expect(demand.take('demand', { limits }).queued).toEqual(range(16, 25));
    expect(demand.size('read-ahead')).toBe(0);
    expect(demand.classOf(25)).toBe('background');
  });

  it('brings what is missing in a gap that it reads through, nothing that is wanted or on its way', () => {
    const queue = queueOf({ demand: [5, 8] });
    expect(queue.take('demand', { limits, isFree: (span) => span !== 6 })).toEqual({ queued: [5, 8], free: [7] });
    const apart = queueOf({ demand: [5, 9] });
    expect(apart.take('demand', { limits, isFree: () => true })).toEqual({ queued: [5], free: [] });
  });

  it('keeps those of another kind apart', () => {
    const queue = queueOf({ demand: [4, 5, 6] });
    expect(queue.take('demand', { limits, kind: (span) => span === 5 }).queued).toEqual([4, 6]);
    expect(queue.take('demand', { limits, kind: (span) => span === 5 }).queued).toEqual([5]);
  });

  it('gives each span once, in runs that are as large as they may be, and the oldest of its class first', () => {
    const actions = fc.array(
      fc.record({
        action: fc.constantFrom('add', 'add', 'add', 'take', 'delete'),
        span: fc.nat(count - 1),
        fetchClass: fc.constantFrom(...fetchClasses),
      }),
      { maxLength: 200 },
    );
    const sizes = fc.record({
      maxBytes: fc.integer({ min: 1, max: 20 * size }),
      maxGap: fc.integer({ min: 0, max: 6 * size }),
    });
    fc.assert(
      fc.property(actions, sizes, (list, limitsOf) => {
        const queue = new FetchQueue(spans);
        const model = new Map<number, FetchClass>();
        for (const { action, span, fetchClass } of list) {
          if (action === 'add') {
            if (model.get(span) !== fetchClass) model.delete(span);
            model.set(span, fetchClass);
            queue.add(span, fetchClass);
          } else if (action === 'delete') {
            model.delete(span);
            queue.delete(span);
          } else {
            const oldest = [...model].find(([, each]) => each === fetchClass)?.[0];
            const { queued, free } = queue.take(fetchClass, { limits: limitsOf, isFree: () => true });
            expect(queued.includes(oldest ?? -1)).toBe(oldest !== undefined);
            expect(queued.every((each) => model.has(each))).toBe(true);
            expect(free.some((each) => model.has(each))).toBe(false);
            const bytes = queued.length === 0 ? 0 : ((queued.at(-1) ?? 0) - (queued[0] ?? 0) + 1) * size;
            expect(bytes).toBeLessThanOrEqual(Math.max(size, limitsOf.maxBytes));
            const isOwn = (each: number) => urgency(model.get(each) ?? 'background') <= urgency(fetchClass);
            const aside = queued.filter((each) => !isOwn(each)).length * size;
            const own = queued.filter(isOwn).length;
            expect(aside).toBeLessThanOrEqual((own + 1) * Math.max(limitsOf.maxGap, 128 * KiB));
            for (const each of queued) model.delete(each);
          }
          for (const each of fetchClasses) {
            expect(queue.size(each)).toBe([...model.values()].filter((of) => of === each).length);
          }
        }
      }),
      { numRuns: rounds(60, 20) },
    );
  });
});
