// Images with a peel index over Debian's containerd and runc.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { memberLayer, shellLayer } from '../support/container-image.ts';
import { holdBlobs } from '../support/held-blobs.ts';
import type { BuiltImage } from '../support/image-builder.ts';
import { sha256 } from '../support/image-lab.ts';
import { canMount } from '../support/peel-node.ts';
import { type PushedPeelIndex, pushedPeelIndex } from '../support/pushed-peel-index.ts';
import { runOk } from '../support/run.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';
import { layersOf } from '../support/test-registry.ts';

/** Nothing compresses it but its sixteen letters, and every place reaches back. */
const letters = (size: number) => Buffer.from(randomBytes(size / 2).toString('hex'));

describe.skipIf(!canMount)('an image with a peel index', () => {
  /** What is read from the beginning of a layer needs no window. */
  const before = { name: 'before', data: letters(2 << 20) };
  const files = ['zstd', 'plain', 'gzip'].map((name) => ({ name, data: letters(2 << 20) }));
  let world: SnapshotterWorld;
  let reference: string;
  let image: BuiltImage;
  let index: PushedPeelIndex;

  beforeAll(async () => {
    world = await SnapshotterWorld.start();
    const { registry } = world;
    reference = registry.reference('mixed');
    const tars = [
      await shellLayer(registry.work('shell-layer.tar')),
      ...(await Promise.all(files.map((file) => memberLayer(registry.work(`${file.name}.tar`), [before, file])))),
    ];
    image = await registry.push('mixed', layersOf(tars, 'gzip', 'zstd-frames', 'none', 'gzip'));
    await world.index(reference);
    index = await pushedPeelIndex(registry.store, 'mixed', image.manifest.descriptor);
  });
  beforeEach(() => {
    world.explainFailure();
    world.registry.front.forget();
  });
  afterAll(async () => expect(await world.close()).toEqual([]));

  const asked = (digest: string | undefined, method = 'GET') =>
    world.registry.front.seen(digest ?? '?').filter((request) => request.method === method);

  /** What a container answers that reads everything of it. */
  async function expectRuns(): Promise<void> {
    const { out } = await world.containerd.run(reference, ['sh', '-c', 'sha256sum /gzip /plain /zstd && ls -d /usr']);
    const sums = files.toSorted((a, b) => (a.name < b.name ? -1 : 1)).map(({ name, data }) => `${hex(data)}  /${name}`);
    expect(out.trim().split('\n')).toEqual([...sums, '/usr']);
  }

  it('has its first layer mounted while the table of another has not come', async () => {
    const { daemon, registry } = world;
    const [first, ...others] = index.layers;
    const held = holdBlobs(
      registry,
      others.map(({ table }) => table.digest),
    );
    const pulling = world.pull(reference);
    pulling.catch(() => {});
    try {
      await vi.waitFor(() => expect(daemon.layerMounts()).toHaveLength(1), { timeout: 40_000, interval: 50 });
      const [point = ''] = daemon.layerMounts();
      expect(held.waiting).toBeGreaterThan(0);
      expect((await runOk('find', [point, '-name', 'sha256sum'])).trim()).toMatch(/bin\/sha256sum$/);
      expect((await daemon.status()).layers.map(({ layer }) => layer)).toEqual([first?.layer]);
    } finally {
      held.release();
      await pulling;
    }
  });

  it('is served lazily, whatever its layers are compressed with, and runs', async () => {
    const { daemon } = world;
    const { layers, deferred, unpacked } = await daemon.status();
    expect([deferred, unpacked]).toEqual([[], []]);
    expect(layers.map(({ layer, served }) => [layer, served])).toEqual(
      image.layers.map(({ descriptor }) => [descriptor.digest, 'lazy']),
    );
    for (const { descriptor } of image.layers.slice(1)) expect(asked(descriptor.digest)).toEqual([]);
    await expectRuns();
    for (const { descriptor } of image.layers) {
      expect(asked(descriptor.digest).length).toBeGreaterThan(0);
      for (const request of asked(descriptor.digest)) expect(request.status).toBe(206);
    }
    // Only layers that cannot be read in part by themselves need windows.
    expect(index.layers.map(({ windows }) => windows !== undefined)).toEqual([true, false, false, true]);
    expect(asked(index.layers[3]?.windows?.digest).length).toBeGreaterThan(0);
  });

  it('is served by a daemon that was started again without asking for a table', async () => {
    const { daemon, registry } = world;
    // For what comes after this one.
    world.configure(['[snapshotter]', 'mode = "eager"']);
    await daemon.stop();
    await daemon.start();
    await world.reconnected();
    const { layers } = await daemon.status();
    expect(layers.map(({ layer }) => layer)).toEqual(image.layers.map(({ descriptor }) => descriptor.digest));
    await expectRuns();
    for (const { table, windows } of index.layers)
      for (const blob of [table, windows]) expect(registry.front.seen(blob?.digest ?? '?')).toEqual([]);
  });

  it('is unpacked in mode eager by the index that the node knows of it, without any window', async () => {
    const { daemon, registry } = world;
    const fresh = { name: 'fresh', data: letters(2 << 20) };
    const tar = await memberLayer(registry.work('fresh.tar'), [fresh]);
    const shell = image.layers[0]?.source.tar ?? '';
    const eager = await registry.push('eager', layersOf([shell, tar], 'gzip'));
    const name = registry.reference('eager');
    await world.index(name);
    const [, known] = (await pushedPeelIndex(registry.store, 'eager', eager.manifest.descriptor)).layers;
    // Somebody has looked into it, so the node knows the index of each layer.
    expect(await daemon.ok(['ls', name, '/fresh'])).toContain('fresh');
    expect(asked(known?.table.digest)).toHaveLength(1);
    registry.front.forget();
    await world.pull(name);
    expect((await daemon.status()).unpacked.map(({ layer }) => layer)).toContain(known?.layer);
    expect(asked(known?.table.digest)).toEqual([]);
    // It is decoded from its beginning.
    expect(asked(known?.windows?.digest)).toEqual([]);
    const { out } = await world.containerd.run(name, ['sha256sum', '/fresh']);
    expect(out).toBe(`${hex(fresh.data)}  /fresh\n`);
  });
});

const hex = (data: Buffer): string => sha256(data).slice('sha256:'.length);
