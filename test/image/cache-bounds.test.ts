// The cache of a real node: what it takes, who may go, and what is said of it.
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { CacheSettings } from '../../src/config/cache-bounds.ts';
import { cacheBounds } from '../../src/config/cache-bounds.ts';
import { bytesBelow, cacheUsage } from '../../src/image/cache-usage.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { ImageLab, labLayer } from '../support/image-lab.ts';
import { mountPoint } from '../support/mounted.ts';
import { canMount } from '../support/peel-node.ts';
import { runOk } from '../support/run.ts';
import { serve } from '../support/serving.ts';
import { tarOf } from '../support/tar-members.ts';

const kib = 1024;

async function world(count: number) {
  const lab = await ImageLab.start();
  const layers = Array.from({ length: count }, (_, n) =>
    labLayer(tarOf({ path: `f${n}`, data: randomBytes(200 * kib) }), 'gzip'),
  );
  const node = await lab.node();
  const images = [];
  for (const [n, layer] of layers.entries()) images.push(await lab.push(`${n}`, [layer]));
  const digests = layers.map(({ descriptor }) => descriptor.digest);
  const settings: { -readonly [Key in keyof CacheSettings]: CacheSettings[Key] } = { limit: '1GiB', high: 90, low: 60 };
  const keeper = async () => await node.keepCache(() => settings);
  onTestFinished(async () => await (await node.keepCache(() => settings)).close());
  return { lab, node, images, digests, settings, keeper };
}

const onDisk = async (root: string) => {
  const sizes = await runOk('du', ['-s', '-B1', ...['blobs', 'trees'].map((name) => join(root, name))]).catch(() => '');
  return sizes.split('\n').reduce((sum, line) => sum + Number(/^\d+/.exec(line)?.[0] ?? 0), 0);
};

describe('cacheBounds', () => {
  it.each([
    ['100GiB', 1e12, 1e12, 100 * 1024 ** 3],
    ['80%', 1_000, 5_000, 800],
    ['80%', 1_000, 300, 300],
  ])('of %s with %d in all and %d within reach', (limit, totalBytes, reachableBytes, expected) => {
    const bounds = cacheBounds({ limit, high: 95, low: 85 }, { totalBytes, reachableBytes });
    expect(bounds).toEqual({
      limit: expected,
      high: Math.floor(expected * 0.95),
      low: Math.floor(expected * 0.85),
    });
  });
});

describe('the cache of a node', () => {
  it('is counted as du counts it', async () => {
    const w = await world(2);
    for (const { reference } of w.images) await (await w.node.openImage(reference)).close();
    const { root } = w.node.paths;
    mkdirSync(join(root, 'trees'), { recursive: true });
    writeFileSync(join(root, 'trees', 'one.erofs'), randomBytes(5_000));
    // Left by a removal that was killed.
    writeFileSync(join(root, 'blobs', 'sha256', 'leftover'), randomBytes(10_000));
    const usage = await cacheUsage(root);
    expect(usage.total).toBe(await onDisk(root));
    expect(usage.layers).toBeGreaterThan(400 * kib);
    expect(await bytesBelow(join(root, 'nowhere'))).toBe(0);
  });

  it('loses layers that nobody uses, the least recently used first, and what is recorded of them', async () => {
    const w = await world(4);
    const { state } = w.node;
    for (const { reference } of w.images) await (await w.node.openImage(reference)).close();
    const [first, second, third, last] = w.digests as [Digest, Digest, Digest, Digest];
    const opened = await w.node.openImage(w.images[2]?.reference ?? '');
    state.layerSources.put([first, second], 'example.org/app:1');
    // The second was used before the first; the last one a moment ago.
    state.layers.touch([second], 1_000);
    state.layers.touch([first], 2_000);
    state.layers.touch([third], 500);
    const keeper = await w.keeper();
    await keeper.check();
    expect(await w.node.cacheEntries()).toHaveLength(4);
    const { total } = await cacheUsage(w.node.paths.root);
    w.settings.limit = `${Math.ceil(total / 0.9)}B`;
    // One has to go.
    w.settings.low = 72;
    await keeper.check();
    expect((await w.node.cacheEntries()).map(({ digest }) => digest)).toEqual([third, first, last]);
    expect(keeper.stats()).toMatchObject({ removedLayers: 1, usedBytes: (await cacheUsage(w.node.paths.root)).total });
    expect(state.layers.get(second)).toBeUndefined();
    // Of the image that was opened, and the one said above.
    expect([first, second].map((layer) => state.layerSources.of(layer).length)).toEqual([2, 0]);
    w.settings.limit = '1B';
    await expect
      .poll(
        async () => {
          await keeper.check();
          return (await w.node.cacheEntries()).map(({ digest }) => digest);
        },
        { timeout: 5_000 },
      )
      .toEqual([third, last]);
    expect(keeper.fillAllowed()).toMatch(/^the cache is full/);
    await opened.close();
  });

  it.skipIf(!canMount)('is pinned by complete layers of mounts, and says by which', async () => {
    const w = await world(2);
    const dir = mountPoint();
    const { root, runDir } = w.node.paths;
    await serve({ root, runDir }, { reference: w.images[0]?.reference ?? '', dir, transport: 'native' });
    await (await w.node.openImage(w.images[1]?.reference ?? '')).close();
    const { pinned, used, bounds } = await w.node.cacheReport({ limit: '50%', high: 90, low: 80 });
    expect(pinned).toEqual([
      { digest: w.digests[0], bytes: expect.any(Number), why: `complete, and mounted on ${dir}` },
    ]);
    expect(pinned[0]?.bytes).toBeGreaterThan(200 * kib);
    expect(used).toEqual(await cacheUsage(root));
    expect(bounds.low).toBeLessThan(bounds.high);
  });
});
