import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { makeRoom } from '../../src/image/make-room.ts';
import { keepSpan, oldestSpans } from '../../src/image/oldest-spans.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { CacheSituation } from '../support/cache-situation.ts';
import type { SituationLayer } from '../support/cache-situation.ts';
import { rounds } from '../support/fixtures.ts';

const now = 1_000;
const recentSeconds = 30;

const digest = (n: number): Digest => `sha256:${n.toString(16).padStart(64, '0')}` as Digest;

const span = fc.record({
  bytes: fc.integer({ min: 1, max: 40_000 }),
  // Many within one second, and some a moment ago.
  lastUsed: fc.oneof(fc.constant(0), fc.integer({ min: 940, max: now }), fc.integer({ min: 1, max: now })),
  present: fc.boolean(),
  claimed: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
  protectedHere: fc.integer({ min: 0, max: 5 }).map((n) => n === 0),
});

const layer = fc.record({
  usedAt: fc.integer({ min: 0, max: 100 }),
  compressedBytes: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 50_000 })),
  idle: fc.boolean(),
  complete: fc.boolean(),
  spans: fc.array(span, { maxLength: 40 }),
});

const situation = fc.record({
  layers: fc.array(layer, { minLength: 1, maxLength: 6 }),
  share: fc.double({ min: 0, max: 1.2, noNaN: true }),
});

describe('makeRoom', () => {
  it('ends below the wish or with nothing left that may go, and takes the oldest first and nothing that is pinned', async () => {
    await fc.assert(
      fc.asyncProperty(situation, async ({ layers, share }) => {
        const made: SituationLayer[] = layers.map((each, n) => ({
          ...each,
          digest: digest(n),
          spans: each.spans.map((one) => ({ ...one })),
        }));
        const isProtected = (of: Digest, at: number) =>
          layers[Number.parseInt(of.slice(7), 16)]?.spans[at]?.protectedHere === true;
        const mayGo = (each: SituationLayer, at: number) => {
          const one = each.spans[at];
          return (
            !each.complete && one !== undefined && one.lastUsed < now - recentSeconds && !isProtected(each.digest, at)
          );
        };
        const before = made.map((each) => ({ ...each, spans: each.spans.map((one) => ({ ...one })) }));
        const stock = new CacheSituation(made, now);
        const usedBefore = await stock.usedBytes();
        const wish = Math.floor(usedBefore * share);
        const result = await makeRoom(stock, { bytes: wish, recentSeconds, isProtected });

        expect(result.usedBytes).toBe(await stock.usedBytes());
        if (usedBefore <= wish) expect([stock.went, stock.shrunk]).toEqual([[], []]);
        if (result.usedBytes > wish) {
          for (const each of stock.layers) {
            expect(each.idle).toBe(false);
            expect(each.spans.filter((one, at) => one.present && !one.claimed && mayGo(each, at))).toEqual([]);
          }
        }
        const spans = stock.went.filter(({ span: at }) => at !== undefined);
        for (const { layer: of, span: at } of spans) {
          const each = before.find(({ digest: candidate }) => candidate === of);
          expect(each !== undefined && mayGo(each, at ?? -1)).toBe(true);
        }
        expect(result.evictedSpans).toBe(spans.length);
        for (const { layer: of } of stock.went.filter(({ span: at }) => at === undefined))
          expect(before.find((each) => each.digest === of)?.idle).toBe(true);
        // Nobody who stayed and might have gone was used longer ago than one who went.
        const ageOf = ({ layer: of, span: at }: { layer: Digest; span: number | undefined }) =>
          before.find((each) => each.digest === of)?.spans[at ?? -1]?.lastUsed ?? 0;
        const youngest = Math.max(-1, ...spans.map(ageOf));
        for (const each of stock.layers)
          for (const [at, one] of each.spans.entries())
            if (one.present && !one.claimed && mayGo(each, at)) expect(one.lastUsed).toBeGreaterThanOrEqual(youngest);
      }),
      { numRuns: rounds(2_000, 50, 0.15) },
    );
  });

  it('evicts no more than is needed', async () => {
    const bytes = 40_960;
    const used = fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(fc.array(used, { minLength: 1, maxLength: 4 }), fc.nat(300), async (times, left) => {
        const layers = times.map((seconds, n) => {
          const spans = seconds.map((lastUsed) => ({ bytes, lastUsed, present: true, claimed: false }));
          return { digest: digest(n), usedAt: n, compressedBytes: 0, idle: false, complete: false, spans };
        });
        const stock = new CacheSituation(layers, now);
        const before = await stock.usedBytes();
        const { usedBytes } = await makeRoom(stock, { bytes: left * 9_999, recentSeconds, isProtected: () => false });
        expect(usedBytes).toBe(Math.min(before, Math.floor((left * 9_999) / bytes) * bytes));
      }),
      { numRuns: rounds(1_000, 50, 0.15) },
    );
  });

  it('removes no more whole layers than are needed, the least recently used first', async () => {
    const spans = () => [{ bytes: 40_960, lastUsed: 1, present: true, claimed: false }];
    const layers = [3, 1, 2].map((usedAt) => ({
      digest: digest(usedAt),
      usedAt,
      compressedBytes: 0,
      idle: true,
      complete: true,
      spans: spans(),
    }));
    const stock = new CacheSituation(layers, now);
    const { removed, usedBytes } = await makeRoom(stock, { bytes: 50_000, recentSeconds, isProtected: () => false });
    expect(removed).toEqual([digest(1), digest(2)]);
    expect(usedBytes).toBe(40_960);
  });

  it('stops when it is told to', async () => {
    const spans = Array.from({ length: 200 }, () => ({ bytes: 4096, lastUsed: 1, present: true, claimed: false }));
    const one = { digest: digest(1), usedAt: 1, compressedBytes: 0, idle: false, complete: false, spans };
    const stop = new AbortController();
    const stock = new CacheSituation([one], now);
    const isProtected = () => {
      stop.abort(new Error('enough'));
      return false;
    };
    await expect(makeRoom(stock, { bytes: 0, recentSeconds, isProtected, signal: stop.signal })).rejects.toThrow(
      'enough',
    );
    expect(stock.went).toEqual([]);
  });
});

describe('oldestSpans', () => {
  const spanStarts = Float64Array.from([0, 10, 20, 30]);

  it('takes the oldest of all layers, within one second those of the first layer', () => {
    const layers = [
      { layer: digest(1), spanStarts, lastUsed: Uint32Array.from([5, 7, 9]) },
      { layer: digest(2), spanStarts, lastUsed: Uint32Array.from([7, 6, keepSpan]) },
    ];
    expect(oldestSpans(layers, { bytes: 25, usedBefore: 100 })).toEqual(
      new Map([
        [digest(1), Uint32Array.from([0, 1])],
        [digest(2), Uint32Array.from([1])],
      ]),
    );
    expect(oldestSpans(layers, { bytes: 1_000, usedBefore: 7 })).toEqual(
      new Map([
        [digest(1), Uint32Array.from([0])],
        [digest(2), Uint32Array.from([1])],
      ]),
    );
    expect(oldestSpans(layers, { bytes: 1_000, usedBefore: 2 ** 40 }).get(digest(2))).toEqual(Uint32Array.from([0, 1]));
    expect(oldestSpans(layers, { bytes: 1_000, usedBefore: 0 })).toEqual(new Map());
    expect(oldestSpans([], { bytes: 1, usedBefore: 9 })).toEqual(new Map());
  });
});
