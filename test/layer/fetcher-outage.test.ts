// A registry that goes away and comes back, while spans are wanted from it.
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { SpanColumns } from '../../src/index/span-columns.ts';
import type { BlobSource } from '../../src/layer/blob-source.ts';
import { SpanFetcher } from '../../src/layer/fetcher.ts';
import { Link } from '../../src/layer/link.ts';
import { isMemoryError, isMemoryShort } from '../../src/layer/memory-shortage.ts';
import type { SpanSink } from '../../src/layer/span-transfer.ts';
import { silentLog } from '../../src/observe/log.ts';
import { CircuitBreaker } from '../../src/registry/client/circuit-breaker.ts';
import { RegistryError } from '../../src/registry/errors.ts';
import { decodeRuns } from '../support/decode-runs.ts';
import { content } from '../support/registry-content.ts';
import { VirtualClock, VirtualLine } from '../support/virtual-time.ts';

const spanSize = 1000;
const count = 64;
const blob = content(randomBytes(spanSize * count));
const starts = Float64Array.from({ length: count }, (_, i) => i * spanSize);
const columns = { blobSize: spanSize * count, streamSize: spanSize * count, streamStarts: starts, blobStarts: starts };
const spans = new SpanColumns({ ...columns, decoder: 'stored', openEnded: false, spanSize }, 'test');

interface Times {
  readonly downFrom: number;
  readonly downUntil: number;
  /** Until then nothing can be decoded. */
  readonly noMemoryUntil?: number;
}

/** A registry that is down in one time of the clock, and a fetcher that asks it through a breaker. */
function rig({ downFrom, downUntil, noMemoryUntil = 0 }: Times) {
  const clock = new VirtualClock();
  const link = new Link({ clock });
  const breaker = new CircuitBreaker({ name: 'r.example', clock, onReturn: () => link.returned() });
  const sent: number[] = [];
  const line = new VirtualLine({
    clock,
    bytesPerMs: 1000,
    delayMs: 1,
    onRequest: () => void sent.push(clock.now()),
    fault: () =>
      clock.now() >= downFrom && clock.now() < downUntil
        ? new RegistryError('UNREACHABLE', 'connection refused')
        : undefined,
  });
  const behind = line.source(blob, 'test');
  const source: BlobSource = {
    ...behind,
    readRange: async (start, end, options = {}) => {
      const pass = breaker.enter(options.whenAway);
      try {
        const reader = await behind.readRange(start, end, options);
        pass.answered();
        return reader;
      } catch (error) {
        throw pass.failed(error);
      }
    },
  };
  /** By span: what became of it, and when. */
  const outcomes = new Map<number, { readonly what: string; readonly at: number }>();
  const sink: SpanSink = {
    decodeRun: decodeRuns(async ({ span, data }) => {
      if (clock.now() < noMemoryUntil)
        throw Object.assign(new Error('ENOMEM: Cannot allocate memory, decode span'), { code: 'ENOMEM' });
      outcomes.set(span, { what: 'right', at: clock.now() });
      return data.length;
    }),
    fail: (span, errno) => void outcomes.set(span, { what: errno, at: clock.now() }),
    isPresent: (span) => outcomes.get(span)?.what === 'right',
    isAwaited: () => false,
  };
  const fetcher = new SpanFetcher({
    layer: blob.descriptor.digest,
    spans,
    sink,
    source,
    slots: [],
    link,
    clock,
    log: silentLog(),
    readDeadlineMs: 60_000,
    limits: { maxBytes: spanSize, maxGap: 0 },
    onFetched: () => {},
    onSuspect: () => {},
  });
  const until = async (isOver: () => boolean, untilMs: number) => await clock.run({ isOver, untilMs });
  const has = (span: number) => outcomes.has(span);
  return { clock, fetcher, outcomes, sent, until, has };
}

describe('an outage of the registry', () => {
  it('is waited for by readers, who ask rarely and are served soon after it', async () => {
    const { fetcher, outcomes, sent, until, has } = rig({ downFrom: 0, downUntil: 30_000 });
    const read = [0, 10, 20, 30];
    fetcher.request(read);
    await until(() => read.every(has), 100_000);
    for (const span of read) {
      expect(outcomes.get(span)?.what).toBe('right');
      expect(outcomes.get(span)?.at).toBeLessThan(30_000 + 5_500);
    }
    // The first ones fail before it is left alone; then there is one at a time.
    expect(sent.filter((at) => at < 30_000).length).toBeLessThan(50);
    expect(sent.filter((at) => at > 10_000 && at < 30_000).length).toBeLessThanOrEqual(9);
    // All of them soon, and not all at one moment.
    const after = read.map((span) => outcomes.get(span)?.at ?? 0);
    expect(Math.max(...after) - Math.min(...after)).toBeLessThan(400);
    expect(new Set(after).size).toBeGreaterThan(1);
    await fetcher.close();
  });

  it('ends a read at its deadline, and the next one works', async () => {
    const { clock, fetcher, outcomes, until, has } = rig({ downFrom: 0, downUntil: 90_000 });
    fetcher.request([3]);
    await until(() => has(3), 200_000);
    expect(outcomes.get(3)).toEqual({ what: 'EIO', at: 60_000 });
    expect(fetcher.lastFailure).toContain('connection refused');
    outcomes.delete(3);
    fetcher.request([3]);
    await until(() => has(3), 200_000);
    expect(outcomes.get(3)?.what).toBe('right');
    expect(clock.now()).toBeLessThan(95_500);
    await fetcher.close();
  });

  it('does not make work that nobody waits for ask all the time, nor forget it', async () => {
    const { fetcher, outcomes, sent, until } = rig({ downFrom: 0, downUntil: 600_000 });
    fetcher.want([1, 2, 3, 4, 5, 6, 7, 8], 'profile');
    fetcher.want([20, 21, 22, 23], 'background');
    await until(() => outcomes.size === 12, 700_000);
    expect([...outcomes.values()].filter(({ what }) => what === 'right').length).toBe(12);
    expect(sent.filter((at) => at < 600_000).length).toBeLessThan(60);
    await fetcher.close();
  });

  it('is over for the work that nobody waits for when a reader finds out that it is', async () => {
    const { clock, fetcher, outcomes, until, has } = rig({ downFrom: 0, downUntil: 200_000 });
    fetcher.want([1], 'background');
    await until(() => clock.now() >= 201_000 || has(1), 201_000);
    expect(has(1)).toBe(false);
    fetcher.request([40]);
    await until(() => has(40) && has(1), 300_000);
    expect(outcomes.get(1)?.at).toBeLessThan((outcomes.get(40)?.at ?? 0) + 300);
    await fetcher.close();
  });
});

describe('memory that is short', () => {
  it('makes reads wait until there is some again, and their registry is asked rarely meanwhile', async () => {
    const { fetcher, outcomes, sent, until, has } = rig({ downFrom: 0, downUntil: 0, noMemoryUntil: 20_000 });
    fetcher.request([3]);
    fetcher.want([30], 'background');
    await until(() => has(3), 100_000);
    expect(outcomes.get(3)?.what).toBe('right');
    expect(outcomes.get(3)?.at).toBeLessThan(20_000 + 5_500);
    expect(sent.length).toBeLessThan(30);
    expect(isMemoryShort()).toBe(true);
    await fetcher.close();
  });

  it('is an error for readers at their deadline, and the next read works', async () => {
    const { fetcher, outcomes, until, has } = rig({ downFrom: 0, downUntil: 0, noMemoryUntil: 70_000 });
    fetcher.request([3]);
    await until(() => has(3), 100_000);
    expect(outcomes.get(3)).toEqual({ what: 'EIO', at: 60_000 });
    expect(fetcher.lastFailure).toContain('Cannot allocate memory');
    outcomes.delete(3);
    fetcher.request([3]);
    await until(() => has(3), 100_000);
    expect(outcomes.get(3)?.what).toBe('right');
    await fetcher.close();
  });

  it('is seen in what the system and the engine say, however deep', () => {
    const errno = (code: string) => Object.assign(new Error(code), { code });
    for (const error of [errno('ENOMEM'), errno('ENOBUFS'), new RangeError('Array buffer allocation failed')]) {
      expect(isMemoryError(error)).toBe(true);
      expect(isMemoryError(new Error('no answer', { cause: error }))).toBe(true);
    }
    for (const error of [errno('EMFILE'), errno('ENOSPC'), new RangeError('Invalid array length'), 'ENOMEM', undefined])
      expect(isMemoryError(error)).toBe(false);
  });
});
