// The fetchers of some layers on one line, in virtual time: who gets it when.
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SpanColumns } from '../../src/index/span-columns.ts';
import type { FetchClass } from '../../src/layer/fetch-class.ts';
import { SpanFetcher } from '../../src/layer/fetcher.ts';
import type { SpanFetch } from '../../src/layer/layer-activity.ts';
import { Link } from '../../src/layer/link.ts';
import { fetchSlots } from '../../src/layer/permits.ts';
import { silentLog } from '../../src/observe/log.ts';
import { RegistryError } from '../../src/registry/errors.ts';
import { Semaphore } from '../../src/util/semaphore.ts';
import { decodeRuns } from '../support/decode-runs.ts';
import { rounds } from '../support/fixtures.ts';
import { content } from '../support/registry-content.ts';
import { VirtualClock, VirtualLine } from '../support/virtual-time.ts';
import type { LineOptions } from '../support/virtual-time.ts';

const KiB = 1 << 10;
const MiB = 1 << 20;
const blob = content(Buffer.alloc(24 * MiB));

interface World {
  readonly sizes: readonly number[];
  readonly layers: number;
  readonly line: Pick<LineOptions, 'bytesPerMs' | 'delayMs' | 'fault' | 'onRequest'>;
  readonly requests?: number;
  readonly seed?: number;
}

function world({ sizes, layers: count, line: lineOptions, requests = 8, seed }: World) {
  const clock = new VirtualClock(seed);
  const line = new VirtualLine({ ...lineOptions, clock });
  const link = new Link({ clock, requests });
  const nodeSlots = fetchSlots(2 * requests);
  const decodeBytes = new Semaphore(32 * MiB, { reserve: 24 * MiB });
  const ends = sizes.map(
    (
      (sum) => (size: number) =>
        (sum += size)
    )(0),
  );
  const blobSize = ends.at(-1) ?? 0;
  const starts = Float64Array.from(ends, (end, i) => end - (sizes[i] ?? 0));
  const shape = { blobSize, streamSize: blobSize, openEnded: false, spanSize: 256 * KiB };
  const layers = Array.from({ length: count }, (_, i) => {
    const spans = new SpanColumns({ ...shape, decoder: 'stored', streamStarts: starts, blobStarts: starts }, 'test');
    const decoded: number[] = [];
    const present = new Set<number>();
    const failed: number[] = [];
    const fetched: SpanFetch[] = [];
    const fetcher = new SpanFetcher({
      layer: blob.descriptor.digest,
      spans,
      sink: {
        decodeRun: decodeRuns(async ({ span, data }) => {
          decoded.push(span);
          present.add(span);
          return data.length;
        }),
        fail: (span) => void failed.push(span),
        isPresent: (span) => present.has(span),
        isAwaited: () => false,
      },
      source: line.source(blob, `layer ${i}`),
      slots: [fetchSlots(8), link.slots, nodeSlots],
      link,
      decodeBytes,
      clock,
      log: silentLog(),
      readDeadlineMs: 60_000,
      onFetched: (fetch) => fetched.push(fetch),
      onSuspect: (why) => expect.unreachable(why),
    });
    return { fetcher, present, decoded, failed, fetched };
  });
  return { clock, line, link, layers, blobSize };
}

type Rig = ReturnType<typeof world>;

async function run(rig: Rig, isOver: () => boolean, untilMs = 600_000): Promise<void> {
  await rig.clock.run({ isOver, untilMs });
  const closing = Promise.all(rig.layers.map(({ fetcher }) => fetcher.close()));
  let isClosed = false;
  void closing.then(() => (isClosed = true));
  await rig.clock.run({ isOver: () => isClosed, untilMs: Infinity });
  await closing;
}

const sizes = fc.array(fc.integer({ min: 8 * KiB, max: 500 * KiB }), { minLength: 10, maxLength: 24 });
const line = fc.record({
  bytesPerMs: fc.constantFrom(1_000, 12_500, 125_000),
  delayMs: fc.constantFrom(0, 1, 20, 120),
});
/** Which brings all of it before anybody has waited for so long that the window does not count. */
const quickLine = line.filter(({ bytesPerMs }) => bytesPerMs > 1_000);
const fetchClass = fc.constantFrom<FetchClass>('demand', 'read-ahead', 'profile', 'background');
const asks = fc.array(
  fc.record({
    at: fc.nat(1_000),
    layer: fc.nat(2),
    span: fc.nat(1_000),
    count: fc.integer({ min: 1, max: 40 }),
    fetchClass,
  }),
  { minLength: 1, maxLength: 30 },
);
const options = { numRuns: rounds(8, 4) };

/** Asks for spans when it is time. Returns what was asked for of each layer. */
function play(rig: Rig, sizesOf: readonly number[], asked: readonly Ask[]): Set<number>[] {
  const wanted = rig.layers.map(() => new Set<number>());
  for (const { at, layer, span, count, fetchClass: why } of asked) {
    const first = span % sizesOf.length;
    const spans = sizesOf.map((_, i) => i).slice(first, first + count);
    for (const each of spans) wanted[layer]?.add(each);
    rig.clock.after(at, () => rig.layers[layer]?.fetcher.want(spans, why));
  }
  return wanted;
}

type Ask = typeof asks extends fc.Arbitrary<infer T> ? (T extends readonly (infer U)[] ? U : never) : never;

describe('fetchers on one line', () => {
  it('bring every span that is wanted, and none twice', async () => {
    await fc.assert(
      fc.asyncProperty(sizes, line, asks, async (sizesOf, lineOf, asked) => {
        const rig = world({ sizes: sizesOf, layers: 3, line: lineOf });
        const wanted = play(rig, sizesOf, asked);
        const isOver = () => wanted.every((spans, i) => [...spans].every((s) => rig.layers[i]?.present.has(s)));
        await run(rig, isOver);
        expect(isOver()).toBe(true);
        for (const { decoded, fetched, failed } of rig.layers) {
          expect(new Set(decoded).size).toBe(decoded.length);
          expect(fetched.map(({ span }) => span)).toEqual(decoded);
          expect(failed).toEqual([]);
          for (const { askedAt, sentAt, landedAt } of fetched)
            expect([askedAt, sentAt, landedAt]).toEqual([askedAt, sentAt, landedAt].toSorted((a, b) => a - b));
        }
        expect([rig.link.outstanding, rig.link.slots.available, rig.link.slots.waiting]).toEqual([0, 8, 0]);
      }),
      options,
    );
  });

  it('bring what readers wait for though some requests fail', async () => {
    const fault = (request: number) => (request % 3 === 0 ? new RegistryError('UNAVAILABLE', 'not now') : undefined);
    await fc.assert(
      fc.asyncProperty(sizes, line, asks, async (sizesOf, lineOf, asked) => {
        const rig = world({ sizes: sizesOf, layers: 3, line: { ...lineOf, fault } });
        const demanded = asked.map((ask) => ({
          ...ask,
          fetchClass: ask.at % 2 === 0 ? ask.fetchClass : ('demand' as const),
        }));
        play(rig, sizesOf, demanded);
        const wanted = demanded.filter((ask) => ask.fetchClass === 'demand');
        const isOver = () => wanted.every(({ layer, span }) => rig.layers[layer]?.present.has(span % sizesOf.length));
        await run(rig, isOver);
        expect(isOver()).toBe(true);
        for (const { decoded } of rig.layers) expect(new Set(decoded).size).toBe(decoded.length);
      }),
      options,
    );
  });

  it('have little outstanding that nobody waits for', async () => {
    await fc.assert(
      fc.asyncProperty(sizes, quickLine, async (sizesOf, lineOf) => {
        const over: number[] = [];
        const onRequest = (bytes: number) => void over.push(rig.link.outstanding - bytes - rig.link.window);
        const rig = world({ sizes: sizesOf, layers: 3, line: { ...lineOf, onRequest }, requests: 64 });
        const all = sizesOf.map((_, i) => i);
        for (const [i, { fetcher }] of rig.layers.entries()) fetcher.want(all, i === 0 ? 'profile' : 'background');
        const isOver = () => rig.layers.every(({ present }) => present.size === all.length);
        await run(rig, isOver);
        expect(isOver()).toBe(true);
        expect(Math.max(...over)).toBeLessThanOrEqual(0);
      }),
      options,
    );
  });

  it('keep the line busy', async () => {
    await fc.assert(
      fc.asyncProperty(line, async (lineOf) => {
        const rig = world({ sizes: Array.from({ length: 40 }, () => 350 * KiB), layers: 2, line: lineOf });
        const all = Array.from({ length: 40 }, (_, i) => i);
        for (const { fetcher } of rig.layers) fetcher.want(all, 'background');
        let doneAt = 0;
        await run(rig, () => {
          doneAt = rig.clock.now();
          return rig.layers.every(({ decoded }) => decoded.length === all.length);
        });
        // It starts with a small window, and finds out in some round trips what the line carries.
        expect(doneAt).toBeLessThan((1.15 * 2 * rig.blobSize) / lineOf.bytesPerMs + 8 * lineOf.delayMs + 100);
      }),
      { numRuns: rounds(4, 2) },
    );
  });

  it('let a demand wait for no more than what a window holds', async () => {
    await fc.assert(
      fc.asyncProperty(
        sizes,
        line,
        fc.array(fc.nat(500), { minLength: 1, maxLength: 8 }),
        async (sizesOf, lineOf, picks) => {
          const rig = world({ sizes: sizesOf, layers: 3, line: lineOf });
          const [reader, ...others] = rig.layers;
          const all = sizesOf.map((_, i) => i);
          for (const { fetcher } of others) fetcher.want(all, 'background');
          reader?.fetcher.want(
            all.filter((i) => i % 3 === 0),
            'profile',
          );
          const { bytesPerMs, delayMs } = lineOf;
          let isOver = false;
          void (async () => {
            for (const [i, pick] of picks.entries()) {
              await rig.clock.sleep(pick);
              const span = (pick * 7 + i) % sizesOf.length;
              const askedAt = rig.clock.now();
              const before = Math.max(rig.link.window, rig.link.outstanding);
              const largest = Math.max(MiB, before / 4);
              await reader?.fetcher.bring(span);
              const own = sizesOf[span] ?? 0;
              const most = (own + before + largest) / bytesPerMs + delayMs + 30;
              expect(rig.clock.now() - askedAt).toBeLessThanOrEqual(most);
            }
          })().then(
            () => (isOver = true),
            (error: unknown) => ((isOver = true), (failure = error)),
          );
          let failure: unknown;
          await run(rig, () => isOver);
          if (failure !== undefined) throw failure;
          expect(isOver).toBe(true);
        },
      ),
      options,
    );
  });

  it('let nobody starve while readers take all there is', async () => {
    const count = 64;
    const rig = world({
      sizes: Array.from({ length: count }, () => 350 * KiB),
      layers: 3,
      line: { bytesPerMs: 2_000, delayMs: 20 },
    });
    const [patient, ...greedy] = rig.layers;
    rig.clock.after(1_000, () => patient?.fetcher.want([3], 'background'));
    for (const { fetcher } of greedy)
      for (let i = 0; i < count; i += 1) rig.clock.after(i * 120, () => fetcher.request([i]));
    let greedyAt = 0;
    await run(rig, () => {
      if (greedyAt === 0 && greedy.every(({ decoded }) => decoded.length >= count)) greedyAt = rig.clock.now();
      return greedyAt > 0 && patient?.decoded.length === 1;
    });
    expect(greedyAt).toBeGreaterThan(15_000);
    expect(patient?.fetched[0]?.landedAt).toBeLessThan(10_000);
    expect(patient?.fetched[0]?.landedAt).toBeGreaterThan(4_000);
  });
});
