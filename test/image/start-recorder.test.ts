import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { explainStart } from '../../src/image/explain-start.ts';
import { traceLimits } from '../../src/image/start-observation.ts';
import { StartRecorder } from '../../src/image/start-recorder.ts';
import type { EndedStart, StartRecorderOptions } from '../../src/image/start-recorder.ts';
import { parseStartTrace } from '../../src/image/start-trace.ts';
import type { FetchClass } from '../../src/layer/fetch-class.ts';
import type { Stall } from '../../src/layer/layer-activity.ts';
import type { Layer } from '../../src/layer/layer.ts';
import { silentLog } from '../../src/observe/log.ts';
import { parseDigest } from '../../src/oci/digest.ts';
import { openState } from '../../src/state/state.ts';
import type { State } from '../../src/state/state.ts';
import { labLayer } from '../support/image-lab.ts';
import { LayerLab } from '../support/layer-lab.ts';
import { tarOf } from '../support/tar-members.ts';
import { tempDir } from '../support/tmp.ts';

const spanSize = 65_536;
const image = parseDigest(`sha256:${'1'.repeat(64)}`);
const about = { reference: 'localhost/app:1', image, dir: '/mnt' };
const never = { least: 1e9, quiet: 1e9, most: 1e9, step: 5 };

/** Two files over ten spans: `usr/a` is all of the first five, `b` is behind it. */
async function openLayer(): Promise<Layer> {
  const members = [
    { path: './usr/a', data: randomBytes(5 * spanSize - 512) },
    { path: 'b', data: randomBytes(5 * spanSize) },
  ];
  const lab = await LayerLab.start();
  return await lab.open(labLayer(tarOf(...members)), { spanSize });
}

function recorder(options: Partial<StartRecorderOptions> = {}): { starts: StartRecorder; state: State } {
  const state = openState(tempDir('peel-starts-'));
  const starts = new StartRecorder({ starts: state.starts, log: silentLog(), times: never, ...options });
  onTestFinished(async () => {
    await starts.close();
    state.close();
  });
  return { starts, state };
}

function touch(layer: Layer, ...spans: number[]): void {
  layer.activity.touched(
    Uint32Array.from(spans),
    Float64Array.from(spans, (_, i) => performance.now() + i / 1000),
  );
}

function fetched(
  layer: Layer,
  span: number,
  fetchClass: FetchClass,
  times: { asked: number; landed: number; retries?: number },
) {
  const { asked: askedAt, landed: landedAt, retries = 0 } = times;
  const source = 'localhost/app@sha256:77';
  layer.activity.fetched({ span, fetchClass, bytes: spanSize, askedAt, sentAt: askedAt, landedAt, retries, source });
}

function stall(layer: Layer, offset: number, startedAt: number, endedAt: number, error?: string): void {
  const stalls: Stall[] = [{ offset, length: 4096, startedAt, endedAt, error }];
  layer.activity.stalled(stalls);
}

function traceOf(state: State) {
  const row = state.starts.last({});
  const trace = row && parseStartTrace(row.trace);
  if (row === undefined || trace === undefined) throw new Error('nothing was written down');
  return { row, trace };
}

describe('a start', () => {
  it('is kept with what it read, waited for and fetched', async () => {
    const layer = await openLayer();
    await layer.read(9 * spanSize, 100);
    const { starts, state } = recorder();
    const from = performance.now();
    const start = starts.begin({ ...about, layers: [{ layer }, { layer }] });
    touch(layer, 9, 0);
    fetched(layer, 0, 'demand', { asked: from + 10, landed: from + 40 });
    stall(layer, 600, from + 10, from + 40);
    fetched(layer, 1, 'read-ahead', { asked: from + 20, landed: from + 60, retries: 2 });
    fetched(layer, 2, 'read-ahead', { asked: from + 20, landed: from + 60 });
    touch(layer, 1, 1);
    stall(layer, spanSize, from + 30, from + 60);
    stall(layer, 7 * spanSize, from + 100, from + 110, 'EIO');
    await start.end();
    const { row, trace } = traceOf(state);
    expect(row).toMatchObject(about);
    expect(Math.abs(row.startedAt - Date.now())).toBeLessThan(10_000);
    expect(trace).toMatchObject({ over: true, stallsLeftOut: 0 });
    const bytes = layer.spans.span(9).blobEnd - layer.spans.span(9).blobStart;
    expect(trace.totals).toEqual({
      touchedSpans: 3,
      neededBytes: 2 * spanSize + bytes,
      cachedBytes: bytes,
      fetched: {
        demand: { spans: 1, bytes: spanSize, usedBytes: spanSize },
        'read-ahead': { spans: 2, bytes: 2 * spanSize, usedBytes: spanSize },
        profile: { spans: 0, bytes: 0, usedBytes: 0 },
        background: { spans: 0, bytes: 0, usedBytes: 0 },
      },
      fetchingMs: 50,
      retries: 2,
      stalls: 3,
      failedReads: 1,
      waitedMs: 60,
    });
    expect(trace.layers).toHaveLength(1);
    expect(trace.layers[0]).toMatchObject({ spans: layer.spans.count, missingSpans: layer.spans.count - 1 });
    expect(trace.layers[0]?.touched.map(([span]) => span)).toEqual([9, 0, 1]);
    const near = (ms: number) => expect.closeTo(ms, -1);
    const source = 'localhost/app@sha256:77';
    const fetch = { bytes: spanSize, source, retries: 0 };
    expect(trace.stalls).toMatchObject([
      {
        layer: 0,
        offset: 600,
        ms: near(30),
        spanBytes: spanSize,
        follows: false,
        fetch: { ...fetch, fetchClass: 'demand' },
      },
      { offset: spanSize, ms: near(30), follows: true, fetch: { ...fetch, fetchClass: 'read-ahead', retries: 2 } },
      { offset: 7 * spanSize, ms: near(10), error: 'EIO' },
    ]);
    expect(trace.stalls[2]).not.toHaveProperty('fetch');
    const report = await explainStart(row, () => layer.paths);
    expect(report?.reads.map(({ path }) => path)).toEqual(['/usr/a', '/usr/a', '/b']);
    expect(report?.wastedBytes).toBe(spanSize);
    expect(report?.readAheadAccuracy).toBe(0.5);
    const gone = await explainStart(row, () => ({ index: '/nowhere/index' }));
    expect(gone?.reads.map(({ path }) => path)).toEqual([undefined, undefined, undefined]);
  });

  it('says when a read goes on where another one was', async () => {
    const layer = await openLayer();
    const { starts, state } = recorder();
    const start = starts.begin({ ...about, layers: [{ layer }] });
    touch(layer, 3);
    const now = performance.now();
    stall(layer, 4 * spanSize, now + 1, now + 2);
    stall(layer, 6 * spanSize, now + 1, now + 2);
    await start.end();
    expect(traceOf(state).trace.stalls.map(({ follows }) => follows)).toEqual([true, false]);
  });

  it('can be looked at while it goes on, and after what was in the way of writing it', async () => {
    const layer = await openLayer();
    let tries = 0;
    const { state } = recorder();
    const tryPut: State['starts']['tryPut'] = (row) => (tries += 1) % 3 === 0 && state.starts.tryPut(row);
    const { starts } = recorder({ starts: { tryPut } });
    const start = starts.begin({ ...about, layers: [{ layer }] });
    await delay(30);
    expect(tries).toBe(0);
    touch(layer, 0);
    await expect.poll(() => state.starts.last({})).toBeDefined();
    expect(traceOf(state).trace).toMatchObject({ over: false, totals: { touchedSpans: 1 } });
    const written = tries;
    await delay(50);
    expect(tries).toBe(written);
    touch(layer, 1);
    await start.end();
    expect(traceOf(state).trace).toMatchObject({ over: true, totals: { touchedSpans: 2 } });
    expect(state.starts.list()).toHaveLength(1);
  });

  it('ends when nothing new is read, not before its least time, and at its most', async () => {
    const layer = await openLayer();
    const ended: string[] = [];
    const begin = (name: string, times: { least: number; quiet: number; most: number }) => {
      const { starts } = recorder({ times: { ...times, step: 5 }, onEnd: () => void ended.push(name) });
      starts.begin({ ...about, layers: [{ layer }] });
    };
    begin('least', { least: 400, quiet: 1, most: 10_000 });
    begin('quiet', { least: 1, quiet: 150, most: 10_000 });
    begin('most', { least: 1, quiet: 10_000, most: 250 });
    await delay(50);
    // Nobody has read anything yet.
    expect(ended).toEqual([]);
    for (let span = 0; span < 3; span += 1) {
      touch(layer, span);
      await delay(10);
    }
    await expect.poll(() => ended, { timeout: 5000 }).toEqual(['quiet', 'most', 'least']);
  });

  it('is not waited for without end when a container reads nothing new', async () => {
    const layer = await openLayer();
    const times = { least: 1, quiet: 1, most: 100, step: 5 };
    const { starts, state } = recorder({ times });
    const { reference } = about;
    for (let i = 0; i < 3; i += 1) starts.begin({ reference, image, layers: [{ layer }] });
    const mounted = starts.begin({ ...about, layers: [{ layer }] });
    fetched(layer, 5, 'background', { asked: 1, landed: 2 });
    expect(starts.running).toBe(4);
    // Whoever mounted it may read later.
    await expect.poll(() => starts.running).toBe(1);
    await delay(50);
    expect(starts.running).toBe(1);
    expect(state.starts.list()).toEqual([]);
    await mounted.end();
    expect(starts.running).toBe(0);
    expect(state.starts.list()).toEqual([]);
  });

  it('can begin on a layer that is not served any more', async () => {
    const layer = await openLayer();
    await layer.close();
    const { starts } = recorder();
    await starts.begin({ ...about, layers: [{ layer }] }).end();
  });

  it('tells the order of what was read, and whether that is all of it', async () => {
    const [layer, other] = [await openLayer(), await openLayer()];
    const ended: EndedStart[] = [];
    const { starts, state } = recorder({ onEnd: (start) => void ended.push(start) });
    const first = starts.begin({ ...about, layers: [{ layer }] });
    touch(layer, 4, 2, 4, 8);
    await first.end();
    await first.end();
    const second = starts.begin({ ...about, layers: [{ layer }, { layer: other }] });
    touch(layer, 1);
    await starts.close();
    // What comes later belongs to no start.
    touch(layer, 3);
    await second.end();
    const idle = starts.begin({ ...about, layers: [{ layer }] });
    await idle.end();
    expect(ended).toHaveLength(2);
    expect(ended[0]).toEqual({ ...about, layers: [{ layer, order: [4, 2, 8], whole: true }] });
    expect(ended[1]?.layers).toEqual([
      { layer, order: [1], whole: false },
      { layer: other, order: [], whole: true },
    ]);
    expect(state.starts.list()).toHaveLength(2);
  });

  it('has bounds, and keeps the longest waits', async () => {
    const layer = await openLayer();
    const { starts, state } = recorder();
    const start = starts.begin({ ...about, layers: [{ layer }] });
    const count = 3 * traceLimits.stalls;
    for (let i = 0; i < count; i += 1) stall(layer, 600, i * 10, i * 10 + 1 + (i % 3));
    await start.end();
    const { trace } = traceOf(state);
    expect(trace.stalls).toHaveLength(traceLimits.stalls);
    expect(trace.stallsLeftOut).toBe(count - traceLimits.stalls);
    expect(trace.stalls.every(({ ms }) => ms === 3)).toBe(true);
    expect(trace.totals).toMatchObject({ stalls: count, waitedMs: 2 * count });
  });
});
