// A small cache, and containers that read more than it holds: what they read is right, and it stays within its bounds.
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { bytesBelow } from '../../src/image/cache-usage.ts';
import { metricValue } from '../support/daemon-metrics.ts';
import { sha256 } from '../support/image-lab.ts';
import { canMount } from '../support/peel-node.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';

const kib = 1024;
const mib = 1024 * kib;
const limit = 16 * mib;
/** What may be on its way, and what is read while the cache is being measured. */
const underWay = 8 * mib;

describe.skipIf(!canMount)('a cache with a limit', () => {
  const files = Array.from({ length: 12 }, (_, n) => ({ name: `f${n}`, data: randomBytes(2 * mib) }));
  let world: SnapshotterWorld;
  let reference: string;

  beforeAll(async () => {
    const cache = ['[cache]', `limit = "${limit / mib}MiB"`, 'high = 70', 'low = 50'];
    const config = [...cache, '[fill]', 'enabled = true', '[read_ahead]', 'enabled = false'];
    world = await SnapshotterWorld.start({ config: () => config });
    ({ reference } = await world.image('large', [files]));
  });
  beforeEach(() => world.explainFailure());
  afterAll(async () => expect(await world.close()).toEqual([]));

  const used = async () => await bytesBelow(`${world.daemon.root}/blobs`);

  it('is filled to its low mark, and nothing goes for that', async () => {
    await world.pull(reference);
    await expect.poll(used, { timeout: 40_000, interval: 200 }).toBeGreaterThan(limit * 0.4);
    await delay(3000);
    expect(await used()).toBeLessThan(limit * 0.5 + underWay / 2);
    expect(await metricValue(world.daemon, 'peel_cache_evicted_bytes_total')).toBe(0);
    expect(await metricValue(world.daemon, 'peel_cache_limit_bytes')).toBe(limit);
  });

  it('is kept while two containers read all of it, twice', async () => {
    const before = await world.daemon.status();
    let most = 0;
    const watch = setInterval(
      () =>
        void used().then(
          (bytes) => (most = Math.max(most, bytes)),
          () => {},
        ),
      150,
    );
    const sums = files.map(({ name, data }) => `${sha256(data).slice('sha256:'.length)}  /${name}`).join('\n');
    const script = 'for f in 0 1 2 3 4 5 6 7 8 9 10 11; do sha256sum /f$f; sleep 0.6; done';
    const command = ['sh', '-c', `${script}; sleep 1; ${script}`];
    try {
      const runs = await Promise.all([0, 1].map(() => world.containerd.run(reference, command)));
      for (const { out } of runs) expect(out).toBe(`${sums}\n${sums}\n`);
    } finally {
      clearInterval(watch);
    }
    expect(most).toBeLessThan(limit + underWay);
    expect(await metricValue(world.daemon, 'peel_cache_evicted_bytes_total')).toBeGreaterThan(4 * mib);
    expect(await metricValue(world.daemon, 'peel_cache_bytes')).toBeLessThan(limit + underWay);
    expect(world.daemon.log).toContain('made room in the cache');
    // Complete ones in use are never evicted.
    const complete = before.layers.filter(({ served }) => served === 'complete');
    for (const layer of complete) expect((await world.daemon.status()).layers).toContainEqual(layer);
  });
});
