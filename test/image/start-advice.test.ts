import { describe, expect, it } from 'vitest';
import { adviceContext, avoidanceOf } from '../../src/image/start-advice.ts';
import type { TracedFetch, TracedStall } from '../../src/image/start-trace.ts';
import { startTrace } from '../support/start-trace.ts';

const fetch: TracedFetch = {
  fetchClass: 'demand',
  bytes: 100_000,
  askedAt: 1000,
  sentAt: 1001,
  retries: 0,
  source: 'r/app@sha256:1',
};
const stall: TracedStall = {
  layer: 0,
  offset: 0,
  length: 4096,
  at: 1000,
  ms: 40,
  spanBytes: 4 << 20,
  follows: false,
  fetch,
};
const context = { quickestMs: 20, rate: 10, missingBytes: 1e9 };

describe('what would have avoided a wait', () => {
  it.each<[string, Partial<TracedStall>, string | undefined]>([
    ['a request failed first', { fetch: { ...fetch, retries: 1 } }, 'registry'],
    ['read-ahead came too late', { fetch: { ...fetch, fetchClass: 'read-ahead', askedAt: 900 } }, 'registry'],
    ['the registry did not answer at all', { error: 'EIO', fetch }, 'registry'],
    ['the disk was full', { error: 'ENOSPC', fetch }, undefined],
    ['the read went on where others had been', { follows: true }, 'read-ahead'],
    ['a small read of a large span took long', {}, 'finer-index'],
    ['it took no longer than any other', { ms: 30 }, 'profile'],
    ['much of the span was read', { length: 1 << 20 }, 'profile'],
    ['the span was small', { spanBytes: 262_144 }, 'profile'],
    ['all could have been here', { ms: 30, at: 1e8 }, 'fill'],
  ])('%s', (_what, change, expected) => {
    expect(avoidanceOf({ ...stall, ...change }, context)).toBe(expected);
  });

  it('is not said of what another process fetched', () => {
    const { fetch: _, ...elsewhere } = stall;
    expect(avoidanceOf(elsewhere, context)).toBeUndefined();
  });

  it('is told by the link as it was', () => {
    const trace = startTrace();
    expect(adviceContext(trace)).toEqual({ quickestMs: 21.2, rate: 15_000_000 / 1500, missingBytes: 80_000_000 });
    const idle = { ...trace, stalls: [], totals: { ...trace.totals, fetchingMs: 0 } };
    expect(adviceContext(idle)).toMatchObject({ rate: 0, quickestMs: Number.POSITIVE_INFINITY });
  });
});
