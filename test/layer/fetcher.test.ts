import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { SpanColumns } from '../../src/index/span-columns.ts';
import type { BlobSource } from '../../src/layer/blob-source.ts';
import { SpanFetcher } from '../../src/layer/fetcher.ts';
import type { SpanFetch } from '../../src/layer/layer-activity.ts';
import type { SpanSink } from '../../src/layer/span-transfer.ts';
import { silentLog } from '../../src/observe/log.ts';
import { RegistryError } from '../../src/registry/errors.ts';
import { Semaphore } from '../../src/util/semaphore.ts';
import { decodeRuns } from '../support/decode-runs.ts';
import { content } from '../support/registry-content.ts';

const spanSize = 1000;
const count = 20;
const blob = content(randomBytes(spanSize * count));
const starts = Float64Array.from({ length: count }, (_, i) => i * spanSize);
const spans = new SpanColumns(
  {
    decoder: 'stored',
    blobSize: spanSize * count,
    streamSize: spanSize * count,
    openEnded: false,
    spanSize,
    streamStarts: starts,
    blobStarts: starts,
  },
  'test',
);

type Answer = (start: number, end: number, signal: AbortSignal) => AsyncGenerator<Uint8Array>;

async function* right(start: number, end: number): AsyncGenerator<Uint8Array> {
  yield blob.bytes.subarray(start, end);
}

async function* never(_start: number, _end: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  yield blob.bytes.subarray(0, 0);
  await delay(60_000, undefined, { signal });
}

/** A fetcher whose requests are answered by `answer`, and what became of its spans. */
function rig(
  answer: Answer,
  options: { readDeadlineMs?: number; present?: (span: number) => boolean; maxGap?: number; slots?: Semaphore } = {},
) {
  const outcomes = new Map<number, string>();
  const requests: string[] = [];
  const sink: SpanSink = {
    decodeRun: decodeRuns(async ({ span, data }) => {
      if (!Buffer.from(data).equals(blob.bytes.subarray(span * spanSize, (span + 1) * spanSize)))
        throw Object.assign(new Error('wrong bytes'), { code: 'ERR_SPAN_DIGEST' });
      outcomes.set(span, 'right');
      return data.length;
    }),
    fail: (span, errno) => void outcomes.set(span, errno),
    isPresent: (span) => options.present?.(span) ?? outcomes.get(span) === 'right',
    isAwaited: () => false,
  };
  const source: BlobSource = {
    name: 'test',
    readAll: () => Promise.reject(new Error('not asked for')),
    readRange: async (start, end, { signal } = {}) => {
      requests.push(`${start / spanSize}-${end / spanSize}`);
      const body = Readable.from(answer(start, end, signal ?? new AbortController().signal), { objectMode: false });
      return { descriptor: blob.descriptor, body, close: () => void body.on('error', () => {}).destroy() };
    },
  };
  const suspects: string[] = [];
  const fetched: SpanFetch[] = [];
  const fetcher = new SpanFetcher({
    layer: blob.descriptor.digest,
    spans,
    sink,
    source,
    slots: [options.slots ?? new Semaphore(8)],
    log: silentLog(),
    readDeadlineMs: options.readDeadlineMs ?? 5_000,
    limits: { maxBytes: 4 * spanSize, maxGap: options.maxGap ?? 0 },
    onFetched: (fetch) => fetched.push(fetch),
    onSuspect: (why) => suspects.push(why),
  });
  const settled = async (...wanted: number[]) => {
    for (let i = 0; i < 400 && !wanted.every((span) => outcomes.has(span)); i += 1) await delay(10);
    return wanted.map((span) => outcomes.get(span) ?? 'waiting');
  };
  return { fetcher, requests, outcomes, suspects, fetched, settled };
}

describe('SpanFetcher', () => {
  it('does not let a read wait for a request that stalls', async () => {
    const stalled: Answer = (start, end, signal) => (start === 0 ? never(start, end, signal) : right(start, end));
    const { fetcher, settled, outcomes } = rig(stalled, { readDeadlineMs: 60_000 });
    fetcher.request([0]);
    await delay(20);
    fetcher.request([10]);
    expect(await settled(10)).toEqual(['right']);
    expect(outcomes.has(0)).toBe(false);
    await fetcher.close();
    expect(outcomes.get(0)).toBe('EIO');
  });

  it('asks for nothing when it is closed at the moment in which a place becomes free', async () => {
    const slots = new Semaphore(1);
    const { fetcher, outcomes } = rig(never, { slots, readDeadlineMs: 60_000 });
    const permit = await slots.acquire();
    fetcher.request([0]);
    await delay(10);
    permit();
    const closed = fetcher.close().then(() => 'closed');
    expect(await Promise.race([closed, delay(1000, 'waits for the registry')])).toBe('closed');
    expect(outcomes.get(0)).toBe('EIO');
    expect(slots.available).toBe(1);
  });

  it('tells who brings a span what became of it', async () => {
    const { fetcher, requests } = rig(right);
    await Promise.all([fetcher.bring(1), fetcher.bring(2), fetcher.bring(2)]);
    await fetcher.bring(1);
    expect(requests).toEqual(['1-3']);

    const refusing = rig(async function* refused(start) {
      yield blob.bytes.subarray(start, start);
      throw new RegistryError('DENIED', 'no entry');
    });
    await expect(refusing.fetcher.bring(3)).rejects.toThrow('no entry');

    const waiting = rig(never, { readDeadlineMs: 60_000 });
    const brought = waiting.fetcher.bring(4);
    await delay(10);
    await Promise.all([waiting.fetcher.close(), expect(brought).rejects.toMatchObject({ code: 'ERR_LAYER_CLOSED' })]);
    await expect(waiting.fetcher.bring(4)).rejects.toMatchObject({ code: 'ERR_LAYER_CLOSED' });

    // Another process brings it before anything is asked for.
    let there = false;
    const shared = rig(never, { present: () => there });
    const found = shared.fetcher.bring(5);
    there = true;
    await found;
    expect(shared.requests).toEqual([]);
    await Promise.all([fetcher.close(), refusing.fetcher.close(), shared.fetcher.close()]);
  });

  it('merges misses that arrive together and asks once', async () => {
    const { fetcher, settled, requests } = rig(right);
    fetcher.request([3, 1]);
    fetcher.request([2, 3, 9]);
    expect(await settled(1, 2, 3, 9)).toEqual(['right', 'right', 'right', 'right']);
    expect(requests.toSorted()).toEqual(['1-4', '9-10']);
    await fetcher.close();
  });

  it('asks again only for what a broken transfer did not bring', async () => {
    let broken = 0;
    const { fetcher, settled, requests } = rig(async function* breaking(start, end) {
      if (broken++ > 0) return yield* right(start, end);
      yield blob.bytes.subarray(start, start + 2 * spanSize + 10);
      throw new Error('connection reset');
    });
    fetcher.request([4, 5, 6, 7]);
    expect(await settled(4, 5, 6, 7)).toEqual(['right', 'right', 'right', 'right']);
    expect(requests).toEqual(['4-8', '6-8']);
    await fetcher.close();
  });

  it.each(['UNTRUSTED', 'CONFIG_INVALID', 'DENIED'] as const)('asks once when the answer is %s', async (code) => {
    const { fetcher, settled, requests } = rig(async function* refused(start) {
      yield blob.bytes.subarray(start, start);
      throw new RegistryError(code, 'no');
    });
    fetcher.request([1]);
    expect(await settled(1)).toEqual(['EIO']);
    expect(requests).toHaveLength(1);
    await fetcher.close();
  });

  it('fetches damaged bytes once more, then fails that span alone', async () => {
    const { fetcher, settled, suspects } = rig(async function* damaged(start, end) {
      const bytes = Buffer.from(blob.bytes.subarray(start, end));
      if (start <= 5 * spanSize && end > 5 * spanSize)
        bytes[5 * spanSize - start] = ~(bytes[5 * spanSize - start] ?? 0);
      yield bytes;
    });
    fetcher.request([4, 5, 6]);
    expect(await settled(4, 5, 6)).toEqual(['right', 'EIO', 'right']);
    expect(suspects).toHaveLength(1);
    await fetcher.close();
  });

  it('does not ask for a span that another process brought', async () => {
    const { fetcher, requests } = rig(right, { present: (span) => span !== 3 });
    fetcher.request([2, 3, 4]);
    await delay(50);
    expect(requests).toEqual(['3-4']);
    await fetcher.close();
  });

  it('fails no read of a span that another process brought while its own registry is away', async () => {
    let there = false;
    const { fetcher, outcomes } = rig(never, { readDeadlineMs: 300, present: () => there });
    fetcher.request([2]);
    await delay(100);
    there = true;
    await delay(400);
    expect(outcomes.get(2)).toBeUndefined();
    await fetcher.close();
  });

  it('tries a span again that failed at its deadline', async () => {
    let away = true;
    const { fetcher, settled, outcomes } = rig(
      (start, end, signal) => (away ? never(start, end, signal) : right(start, end)),
      { readDeadlineMs: 200 },
    );
    fetcher.request([2]);
    expect(await settled(2)).toEqual(['EIO']);
    away = false;
    outcomes.delete(2);
    fetcher.request([2]);
    expect(await settled(2)).toEqual(['right']);
    await fetcher.close();
  });

  it('fails what is asked for after it was closed, and ends at once though nothing answers', async () => {
    const { fetcher, settled } = rig(never);
    fetcher.request([1]);
    await delay(20);
    await fetcher.close();
    fetcher.request([8]);
    expect(await settled(1, 8)).toEqual(['EIO', 'EIO']);
  });

  it('makes a span that is wanted urgent when a reader comes, also on its way, and asks for it once', async () => {
    let go: (() => void) | undefined;
    const started = new Promise<void>((resolve) => (go = resolve));
    const { fetcher, requests, settled, fetched, outcomes } = rig(
      async function* late(start, end, signal) {
        go?.();
        if (start > 0) return yield* right(start, end);
        yield* never(start, end, signal);
      },
      { readDeadlineMs: 400 },
    );
    fetcher.want([0], 'background');
    await started;
    // Without a reader a span has no deadline; from now on this one has.
    fetcher.request([0]);
    fetcher.want([8, 9], 'profile');
    fetcher.request([9]);
    expect(await settled(0, 8, 9)).toEqual(['EIO', 'right', 'right']);
    expect(requests.filter((request) => request === '0-1').length).toBeGreaterThan(0);
    expect(requests.filter((request) => request === '8-10')).toHaveLength(1);
    expect(fetched.map(({ span, fetchClass, bytes, source }) => [span, fetchClass, bytes, source])).toEqual([
      [8, 'profile', spanSize, 'test'],
      [9, 'profile', spanSize, 'test'],
    ]);
    await fetcher.close();
    expect(outcomes.size).toBe(3);
  });

  it('drops what nobody waits for after some attempts, and tells no reader', async () => {
    const { fetcher, requests, outcomes, fetched } = rig(async function* refused(start) {
      yield blob.bytes.subarray(start, start);
      throw new Error('connection reset');
    });
    await expect(fetcher.bring(3, 'read-ahead')).rejects.toThrow('connection reset');
    expect(requests).toEqual(['3-4', '3-4', '3-4', '3-4']);
    expect([outcomes.size, fetched, fetcher.lastFailure]).toEqual([0, [], undefined]);
    await fetcher.close();
    expect(outcomes.size).toBe(0);
  });

  it('forgets what is wanted as something and not on its way', async () => {
    const { fetcher, requests, outcomes, settled } = rig(right);
    fetcher.want([1, 2], 'background');
    fetcher.want([5], 'profile');
    const brought = fetcher.bring(12, 'background');
    fetcher.request([2]);
    fetcher.forget('background');
    await expect(brought).rejects.toMatchObject({ code: 'ERR_LAYER_FETCH' });
    expect(await settled(2, 5)).toEqual(['right', 'right']);
    await delay(30);
    expect([...outcomes.keys()].toSorted((a, b) => a - b)).toEqual([2, 5]);
    expect(requests.toSorted()).toEqual(['2-3', '5-6']);
    await fetcher.close();
  });

  it('decodes what is missing in a gap that it reads through, and fails no reader when that is damaged', async () => {
    const { fetcher, requests, fetched, settled, suspects } = rig(
      async function* damaged(start, end) {
        const bytes = Buffer.from(blob.bytes.subarray(start, end));
        if (start <= 6 * spanSize && end > 6 * spanSize)
          bytes[6 * spanSize - start] = ~(bytes[6 * spanSize - start] ?? 0);
        yield bytes;
      },
      { maxGap: 2 * spanSize, present: (span) => fetched.some((fetch) => fetch.span === span) },
    );
    fetcher.request([4, 7]);
    expect(await settled(4, 5, 7)).toEqual(['right', 'right', 'right']);
    for (let i = 0; i < 100 && suspects.length === 0; i += 1) await delay(10);
    expect(requests).toEqual(['4-8', '6-7']);
    expect(suspects).toHaveLength(1);
    expect(fetcher.lastFailure).toBeUndefined();
    await fetcher.close();
  });
});
