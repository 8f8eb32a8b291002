import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { LazyLayers } from '../../src/image/lazy-layers.ts';
import type { LazySettings } from '../../src/image/lazy-layers.ts';
import { FillPolicy } from '../../src/layer/fill-policy.ts';
import type { Layer } from '../../src/layer/layer.ts';
import { silentLog } from '../../src/observe/log.ts';
import { labLayer } from '../support/image-lab.ts';
import { LayerLab } from '../support/layer-lab.ts';
import { tarOf } from '../support/tar-members.ts';

async function openLayer(): Promise<Layer> {
  const lab = await LayerLab.start();
  return await lab.open(labLayer(tarOf({ path: 'a', data: randomBytes(500_000) })), { spanSize: 65_536 });
}

function lazyLayers() {
  let settings: LazySettings = { readAhead: { enabled: true, budget: 1 << 20 }, fill: true };
  const policy = new FillPolicy({ limits: { bandwidth: 0, hours: undefined } });
  // Nothing comes by itself: what is looked at is who is filled, not how.
  policy.setAllowed(() => 'not now');
  const lazy = new LazyLayers({ settings: () => settings, policy, log: silentLog() });
  let walks = 0;
  const files = async () => {
    walks += 1;
    return Float64Array.of(512, 500_512);
  };
  const reload = (changed: Partial<LazySettings>) => {
    settings = { ...settings, ...changed };
    lazy.reload();
  };
  return { lazy, files, reload, walks: () => walks };
}

describe('LazyLayers', () => {
  it('does for a layer what any of its users asks for, for as long as he uses it', async () => {
    const layer = await openLayer();
    const { lazy, files, walks } = lazyLayers();
    const modest = lazy.attach(layer, { files, readAhead: false, fill: false });
    expect([lazy.stats().filling, walks()]).toEqual([0, 0]);
    const other = lazy.attach(layer, { files, readAhead: true, fill: true });
    expect([lazy.stats().filling, walks()]).toEqual([1, 1]);
    const third = lazy.attach(layer, { files, readAhead: true, fill: true });
    await Promise.all([third.detach(), third.detach()]);
    expect([lazy.stats().filling, walks()]).toEqual([1, 1]);
    await other.detach();
    expect(lazy.stats().filling).toBe(0);
    const again = lazy.attach(layer, { files, readAhead: true, fill: true });
    expect([lazy.stats().filling, walks()]).toEqual([1, 2]);
    await Promise.all([modest.detach(), again.detach()]);
    expect(lazy.stats()).toEqual({ fetchedBytes: 0, usedBytes: 0, filling: 0 });
  });

  it('takes over other settings for layers that are attached', async () => {
    const layer = await openLayer();
    const { lazy, files, reload, walks } = lazyLayers();
    const user = lazy.attach(layer, { files, readAhead: true, fill: true });
    reload({ fill: false, readAhead: { enabled: false, budget: 1 << 20 } });
    expect(lazy.stats().filling).toBe(0);
    reload({ fill: true });
    expect([lazy.stats().filling, walks()]).toEqual([1, 1]);
    reload({ readAhead: { enabled: true, budget: 1 << 20 } });
    expect(walks()).toBe(2);
    await user.detach();
  });

  it('protects what a profile names, also of a layer that is not attached yet, until nobody uses it', async () => {
    const layer = await openLayer();
    const { lazy, files } = lazyLayers();
    const kept: string[] = [];
    lazy.keptBy({
      readAheadRoom: () => Infinity,
      watch: () => () => {},
      protect: (digest, spans) => {
        const name = `${digest === layer.descriptor.digest} ${[...spans].join()}`;
        kept.push(name);
        return () => void kept.splice(kept.indexOf(name), 1);
      },
    });
    lazy.prefer(layer, [3, 1]);
    expect(kept).toEqual(['true 3,1']);
    await expect.poll(() => layer.cache.isPresent(1) && layer.cache.isPresent(3)).toBe(true);
    const user = lazy.attach(layer, { files, readAhead: true, fill: true });
    user.prefer([2]);
    user.prefer([]);
    expect(kept).toEqual(['true 3,1', 'true 2']);
    await user.detach();
    expect(kept).toEqual(['true 3,1']);
  });
});
