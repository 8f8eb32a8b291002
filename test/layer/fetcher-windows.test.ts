// Spans whose windows have to be fetched too, with a source of windows that does as it is told.
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { IndexError } from '../../src/index/errors.ts';
import { SpanColumns } from '../../src/index/span-columns.ts';
import { LayerError } from '../../src/layer/errors.ts';
import { SpanFetcher } from '../../src/layer/fetcher.ts';
import type { SpanSink } from '../../src/layer/span-transfer.ts';
import { silentLog } from '../../src/observe/log.ts';
import { RegistryError } from '../../src/registry/errors.ts';
import { Semaphore } from '../../src/util/semaphore.ts';
import { decodeRuns } from '../support/decode-runs.ts';
import { content } from '../support/registry-content.ts';
import { type RangeAnswer, rangesOf } from '../support/window-blob.ts';

const spanSize = 1000;
const count = 20;
const blob = content(randomBytes(spanSize * count));
const starts = Float64Array.from({ length: count }, (_, i) => i * spanSize);

interface Told {
  /** Of a span, at the given attempt. */
  readonly window: (span: number, attempt: number, signal: AbortSignal | undefined) => Promise<Uint8Array>;
  readonly answer?: RangeAnswer;
  readonly readDeadlineMs?: number;
  readonly slots?: Semaphore;
}

function rig({ window, answer, readDeadlineMs = 5_000, slots = new Semaphore(8) }: Told) {
  const { source, requests } = rangesOf(blob, answer);
  const outcomes = new Map<number, string>();
  const asked: string[] = [];
  const attempts = new Map<number, number>();
  const spans = new SpanColumns(
    {
      decoder: 'gzip-checkpoint',
      blobSize: spanSize * count,
      streamSize: spanSize * count,
      openEnded: false,
      spanSize,
      streamStarts: starts,
      blobStarts: starts,
      window: (span, signal) => {
        const attempt = (attempts.get(span) ?? 0) + 1;
        attempts.set(span, attempt);
        return window(span, attempt, signal);
      },
      prepareWindows: (wanted) => asked.push(`windows of ${wanted.join(' ')} before ${requests.length} requests`),
    },
    'test',
  );
  const sink: SpanSink = {
    decodeRun: decodeRuns(async ({ span, data, window: given }) => {
      outcomes.set(span, given === undefined ? 'without' : `window ${given[0]}`);
      return data.length;
    }),
    fail: (span, errno) => void outcomes.set(span, errno),
    isPresent: (span) => outcomes.get(span)?.startsWith('window') === true,
    isAwaited: () => false,
  };
  const suspects: string[] = [];
  const fetcher = new SpanFetcher({
    layer: blob.descriptor.digest,
    spans,
    sink,
    source,
    slots: [slots],
    log: silentLog(),
    readDeadlineMs,
    limits: { maxBytes: 4 * spanSize, maxGap: 0 },
    onFetched: () => {},
    onSuspect: (why) => suspects.push(why),
  });
  onTestFinished(() => fetcher.close());
  const settled = async (...wanted: number[]) => {
    for (let i = 0; i < 400 && !wanted.every((span) => outcomes.has(span)); i += 1) await delay(10);
    return wanted.map((span) => outcomes.get(span) ?? 'waiting');
  };
  return { fetcher, asked, requests, attempts, outcomes, suspects, settled };
}

const right = async (span: number) => new Uint8Array(32_768).fill(span);

describe('windows', () => {
  it('are asked for before the first span that needs one, and where the stream before a span is not known', async () => {
    const { fetcher, asked, requests, attempts, settled } = rig({ window: right });
    fetcher.request([3, 4, 5]);
    expect(await settled(3, 4, 5)).toEqual(['window 3', 'window 4', 'window 5']);
    expect(asked).toEqual(['windows of 3 before 0 requests']);
    expect(requests).toHaveLength(1);
    expect([...attempts.values()]).toEqual([1, 1, 1]);
  });

  it('that cannot be had are asked for again, and their spans only once they are here', async () => {
    const { fetcher, attempts, requests, suspects, settled } = rig({
      window: async (span, attempt) => {
        if (span === 4 && attempt < 3) throw new RegistryError('UNAVAILABLE', 'come back later');
        return await right(span);
      },
    });
    fetcher.request([3, 4]);
    expect(await settled(3, 4)).toEqual(['window 3', 'window 4']);
    // Once more for the span that comes then.
    expect(Object.fromEntries(attempts)).toEqual({ 3: 1, 4: 4 });
    expect(requests).toEqual([
      [3000, 5000],
      [4000, 5000],
    ]);
    expect(suspects).toEqual([]);
  });

  it('that cannot be had are asked for again together', async () => {
    const { fetcher, asked, requests, settled } = rig({
      window: async (span, attempt) => {
        if (attempt < 3) throw new RegistryError('UNAVAILABLE', 'come back later');
        return await right(span);
      },
    });
    fetcher.request([3, 4, 5, 6]);
    expect(await settled(3, 4, 5, 6)).toEqual([3, 4, 5, 6].map((span) => `window ${span}`));
    expect(requests).toEqual([
      [3000, 7000],
      [3000, 7000],
    ]);
    expect(asked).toHaveLength(3);
  });

  it('that do not come do not hold up the spans beside theirs', async () => {
    const { fetcher, settled, outcomes } = rig({
      window: async (span, attempt) => {
        if (span !== 4) return await right(span);
        if (attempt > 1) return await new Promise(() => {});
        throw new RegistryError('UNAVAILABLE', 'come back later');
      },
    });
    fetcher.request([4]);
    await delay(300);
    fetcher.request([3, 5]);
    expect(await settled(3, 5)).toEqual(['window 3', 'window 5']);
    expect(outcomes.has(4)).toBe(false);
  });

  it.each([
    ['refused', new RegistryError('DENIED', 'no entry')],
    ['gone', new RegistryError('BLOB_UNKNOWN', 'no such blob')],
  ])('that are %s end the read at once, for want of an index', async (_, error) => {
    const { fetcher, attempts, suspects, settled } = rig({ window: () => Promise.reject(error) });
    const brought = fetcher.bring(7);
    await expect(brought).rejects.toMatchObject({ code: 'ERR_LAYER_INDEX', cause: error });
    expect(await settled(7)).toEqual(['EIO']);
    expect(attempts.get(7)).toBe(1);
    expect(suspects).toEqual([]);
    expect(fetcher.lastFailure).toBe(error.message);
  });

  it.each([
    new IndexError('ERR_INDEX_CHECKSUM', 'another digest'),
    new IndexError('ERR_INDEX_FORMAT', 'no window'),
    new LayerError('ERR_LAYER_SHORT', 'the blob ends before'),
  ])('that are wrong ($code) end the read and make the layer suspect', async (error) => {
    const { fetcher, attempts, suspects, settled } = rig({
      window: (span) => (span === 6 ? Promise.reject(error) : right(span)),
    });
    fetcher.request([5, 6]);
    expect(await settled(5, 6)).toEqual(['window 5', 'EIO']);
    expect(attempts.get(6)).toBe(1);
    expect(suspects).toEqual([expect.stringContaining(error.message)]);
  });

  it('that never come end the read at its deadline, and hold up nobody else', async () => {
    const slots = new Semaphore(1);
    const { fetcher, settled, outcomes } = rig({
      window: (span) => (span === 2 ? new Promise(() => {}) : right(span)),
      readDeadlineMs: 2_500,
      slots,
    });
    fetcher.request([2]);
    await delay(20);
    const started = performance.now();
    fetcher.request([12]);
    // A transfer that waits gives its permit back after a while.
    expect(await settled(12)).toEqual(['window 12']);
    expect(performance.now() - started).toBeLessThan(2_000);
    expect(outcomes.has(2)).toBe(false);
    expect(await settled(2)).toEqual(['EIO']);
    expect(slots.available).toBe(1);
    await fetcher.close();
  });

  it('are waited for no longer than the fetcher is open', async () => {
    const { fetcher, settled } = rig({ window: () => new Promise(() => {}), readDeadlineMs: 60_000 });
    const brought = fetcher.bring(2);
    await delay(30);
    await Promise.all([fetcher.close(), expect(brought).rejects.toMatchObject({ code: 'ERR_LAYER_CLOSED' })]);
    expect(await settled(2)).toEqual(['EIO']);
  });
});
