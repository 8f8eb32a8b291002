import { randomBytes } from 'node:crypto';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { FillPolicy } from '../../src/layer/fill-policy.ts';
import type { FillLimits } from '../../src/layer/fill-policy.ts';
import { LayerFill } from '../../src/layer/layer-fill.ts';
import { silentLog } from '../../src/observe/log.ts';
import { Deferred } from '../../src/util/deferred.ts';
import { FillTime, settled } from '../support/fill-time.ts';
import { labLayer } from '../support/image-lab.ts';
import { LayerLab } from '../support/layer-lab.ts';
import { archive } from '../support/tar-builder.ts';
import { evenSpans, TouchedLayer } from '../support/touched-layer.ts';

const mib = 1024 * 1024;
const unlimited: FillLimits = { bandwidth: 0, hours: undefined };
const spansOf = (layer: TouchedLayer) => layer.wanted.map(({ span }) => span);
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

function policyOf(limits: FillLimits = unlimited) {
  const time = new FillTime();
  return { time, policy: new FillPolicy({ limits, clock: time }) };
}

/** Filling of a layer of spans of 2 MiB, of 1 MiB of blob each; stopped when the test ends. */
function filling(policy: FillPolicy, spans = 100) {
  const layer = new TouchedLayer(evenSpans(spans, 2 * mib));
  const completed: number[] = [];
  const onComplete = () => void completed.push(policy.clock.now());
  const fill = new LayerFill({ layer, policy, log: silentLog(), onComplete });
  onTestFinished(() => fill.stop());
  return { layer, fill, completed };
}

describe('LayerFill', () => {
  it('has a bounded amount on its way, all of the class background, until the layer is complete', async () => {
    const { time, policy } = policyOf();
    const { layer, fill, completed } = filling(policy);
    fill.start();
    let most = 0;
    while (layer.present.size < 100) {
      await settled();
      most = Math.max(most, layer.coming.size);
      expect(layer.coming.size).toBeGreaterThan(0);
      for (const span of [...layer.coming.keys()].slice(0, 5)) layer.land(span, 'background');
    }
    expect(most).toBe(32);
    expect(spansOf(layer)).toEqual(range(0, 100));
    expect(new Set(layer.wanted.map(({ fetchClass }) => fetchClass))).toEqual(new Set(['background']));
    await time.pass(5000);
    expect(completed).toEqual([]);
    layer.isComplete = true;
    await time.pass(1000);
    expect(completed.length).toBe(1);
    expect(time.sleeping).toBe(0);
  });

  it('brings what is preferred, then what lies around touched spans, and nothing that is here', async () => {
    const { policy } = policyOf();
    const { layer, fill } = filling(policy, 16);
    for (const span of [7, 13]) layer.present.add(span);
    fill.prefer([9, 2]);
    fill.start();
    layer.touch(13);
    await settled();
    expect(spansOf(layer)).toEqual([9, 2, 12, 14, 15, 0, 1, 3, 4, 5, 6, 8, 10, 11]);
  });

  it('leaves nothing behind when it is stopped', async () => {
    const { time, policy } = policyOf();
    const { layer, fill } = filling(policy);
    fill.start();
    await settled();
    expect(layer.coming.size).toBe(32);
    await fill.stop();
    expect(layer.forgotten).toEqual(['background']);
    expect(layer.coming.size).toBe(0);
    expect(time.sleeping).toBe(0);
    layer.touch(60);
    await time.pass(100_000);
    expect(layer.wanted.length).toBe(32);
    // Its place is another's.
    const others = [filling(policy), filling(policy)];
    for (const other of others) other.fill.start();
    await settled();
    expect(others.map((other) => other.layer.wanted.length)).toEqual([32, 32]);
  });

  it('takes nothing back from one that begins when it is stopped', async () => {
    const { policy } = policyOf();
    const { layer, fill } = filling(policy);
    fill.start();
    await settled();
    const next = new LayerFill({ layer, policy, log: silentLog() });
    const stopped = fill.stop();
    next.start();
    await stopped;
    await settled();
    expect(layer.coming.size).toBe(32);
    await next.stop();
    expect(layer.coming.size).toBe(0);
  });

  it('pauses when nothing comes, longer each time, and goes on with the same spans', async () => {
    const { time, policy } = policyOf();
    const { layer, fill } = filling(policy);
    fill.prefer([70]);
    fill.start();
    await settled();
    layer.coming.clear();
    await time.pass(62_000);
    expect(layer.forgotten).toEqual(['background']);
    expect(layer.wanted.length).toBe(32);
    await time.pass(15_000);
    expect(spansOf(layer).slice(32)).toEqual([70, ...range(0, 31)]);
    layer.coming.clear();
    await time.pass(62_000 + 16_000);
    expect(layer.wanted.length).toBe(64);
    await time.pass(15_000);
    expect(layer.wanted.length).toBe(96);
    layer.landAll();
    await settled();
    expect(spansOf(layer).slice(96)).toEqual(range(31, 63));
  });

  it('notices what another process brought, and brings again what was evicted', async () => {
    const { time, policy } = policyOf();
    const { layer, fill } = filling(policy, 40);
    fill.start();
    await settled();
    for (const span of layer.coming.keys()) layer.present.add(span);
    layer.coming.clear();
    await time.pass(1000);
    expect(spansOf(layer)).toEqual(range(0, 40));
    layer.landAll();
    layer.present.delete(17);
    await time.pass(2000);
    expect(spansOf(layer).slice(40)).toEqual([17]);
  });

  it('fills a layer of a registry until it is complete', async () => {
    const lab = await LayerLab.start();
    const content = labLayer(archive({ name: 'f', data: randomBytes(2 * mib) }), 'gzip');
    const layer = await lab.open(content, { spanSize: 64 * 1024 });
    const completed = new Promise<void>((resolve) => {
      const policy = new FillPolicy({ limits: unlimited });
      const fill = new LayerFill({ layer, policy, log: silentLog(), onComplete: resolve });
      onTestFinished(() => fill.stop());
      fill.start();
    });
    await completed;
    expect(layer.complete).toBe(true);
    const stream = await layer.read(0, content.tar.length);
    expect(stream.equals(content.tar)).toBe(true);
  });

  it('ends while it fills a layer of a registry that is closed', async () => {
    const lab = await LayerLab.start();
    const layer = await lab.open(labLayer(archive({ name: 'f', data: randomBytes(2 * mib) }), 'gzip'), {
      spanSize: 64 * 1024,
    });
    const fill = new LayerFill({ layer, policy: new FillPolicy({ limits: unlimited }), log: silentLog() });
    fill.start();
    await settled();
    await fill.stop();
    await layer.close();
    const late = new LayerFill({ layer, policy: new FillPolicy({ limits: unlimited }), log: silentLog() });
    late.start();
    await settled();
    await late.stop();
  });
});

describe('FillPolicy', () => {
  it('keeps to so many bytes a second over all layers, from the first on', async () => {
    const { time, policy } = policyOf({ bandwidth: 4 * mib, hours: undefined });
    const layers = [filling(policy), filling(policy)];
    for (const { fill } of layers) fill.start();
    const asked: number[] = [];
    for (let second = 0; second < 10; second += 1) {
      await time.pass(1000);
      for (const { layer } of layers) layer.landAll();
      asked.push(layers.reduce((sum, { layer }) => sum + layer.wanted.length, 0));
    }
    expect(asked[9]).toBeGreaterThanOrEqual(40);
    // What is saved up is one second's, and one turn of each may be under way.
    expect(asked[9]).toBeLessThanOrEqual(46);
    expect((asked[1] as number) - (asked[0] as number)).toBeLessThanOrEqual(6);
    policy.configure(unlimited);
    await settled();
    expect(layers.reduce((sum, { layer }) => sum + layer.wanted.length, 0)).toBeGreaterThanOrEqual(100);
  });

  it('fills at the hours that it is told, and nothing while there is a reason not to', async () => {
    const { time, policy } = policyOf({ bandwidth: 0, hours: { from: 22 * 60, to: 6 * 60 } });
    const { layer, fill } = filling(policy);
    time.minuteNow = 21 * 60 + 59;
    fill.start();
    await time.pass(60_000);
    expect(policy.reason).toBe('not at this hour');
    expect(layer.wanted).toEqual([]);
    time.minuteNow = 22 * 60;
    policy.setAllowed(() => 'cache is full');
    await time.pass(60_000);
    expect(policy.reason).toBe('cache is full');
    expect(layer.wanted).toEqual([]);
    policy.setAllowed(() => undefined);
    await settled();
    expect(layer.wanted.length).toBe(32);
    time.minuteNow = 6 * 60;
    layer.landAll();
    await time.pass(2000);
    expect(layer.wanted.length).toBe(32);
  });

  it('asks for little while somebody waits for other work, and a moment longer, but not for ever', async () => {
    const { time, policy } = policyOf();
    const { layer, fill } = filling(policy);
    const work = Array.from({ length: 3 }, () => new Deferred<void>());
    const begin = (which: number) => policy.yieldTo(() => work[which]?.promise ?? Promise.resolve());
    /** How many are asked for when what was has come. */
    const next = async () => {
      for (const span of layer.coming.keys()) layer.land(span, 'background');
      const before = layer.wanted.length;
      await settled();
      return layer.wanted.length - before;
    };
    const first = begin(0);
    fill.start();
    await settled();
    expect(layer.wanted.length).toBe(1);
    await time.pass(1000);
    expect(await next()).toBe(1);
    work[0]?.resolve();
    await first;
    await time.pass(100);
    expect(await next()).toBe(1);
    // As one layer of an image follows another.
    const second = begin(1);
    await time.pass(800);
    expect(await next()).toBe(1);
    await time.pass(200);
    expect(await next()).toBe(32);
    work[1]?.resolve();
    await second;
    await time.pass(200);
    const failing = begin(2);
    expect(await next()).toBe(1);
    work[2]?.reject(new Error('of the work'));
    await expect(failing).rejects.toThrow('of the work');
    await time.pass(200);
    expect(await next()).toBe(32);
  });

  it('remembers nothing of those that waited while nothing changed', async () => {
    const { time, policy } = policyOf();
    policy.setAllowed(() => 'cache is full');
    const ending = new AbortController();
    const place = policy.enter();
    const turn = place.turn(ending.signal);
    await time.pass(1000);
    const reactions = vi.spyOn(Promise, 'race');
    onTestFinished(() => reactions.mockRestore());
    await time.pass(3000);
    const waitedFor = reactions.mock.calls.map(([both]) => [...both][1]);
    expect(waitedFor).toHaveLength(3);
    // What is waited for twice remembers both, for ever when it never comes.
    expect(new Set(waitedFor).size).toBe(3);
    ending.abort(new Error('over'));
    await expect(turn).rejects.toThrow('over');
  });

  it('lets two layers be filled at a time, those that were touched last, and the next when one is done or gets nothing', async () => {
    const { time, policy } = policyOf();
    const layers = [filling(policy, 200), filling(policy, 200), filling(policy, 200), filling(policy, 32)];
    for (const { fill } of layers) fill.start();
    const counts = () => layers.map(({ layer }) => layer.wanted.length);
    await settled();
    expect(counts()).toEqual([32, 32, 0, 0]);
    layers[3]?.layer.touch(31);
    await settled();
    expect(counts()).toEqual([32, 32, 0, 31]);
    for (const { layer } of layers) layer.landAll();
    await settled();
    // All of the last is here: it only waits to be complete, which takes no place.
    expect(counts()).toEqual([64, 64, 0, 31]);
    for (const { layer } of layers) layer.coming.clear();
    await time.pass(70_000);
    expect(layers[2]?.layer.wanted.length).toBe(32);
  });
});
