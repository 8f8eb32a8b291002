// containerd's protocol for layers that need no unpacking.
import { readdirSync } from 'node:fs';
import { status } from '@grpc/grpc-js';
import { describe, expect, it, vi } from 'vitest';
import { parseDigest } from '../../src/oci/digest.ts';
import { Kind } from '../../src/snapshotter/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import type { PrepareReport } from '../../src/snapshotter/outcomes.ts';
import type { SnapshotsClient } from '../support/snapshots-client.ts';
import { snapshotsWorld } from '../support/snapshots-world.ts';
import type { SnapshotsWorld } from '../support/snapshots-world.ts';
import { Deferred } from '../../src/util/deferred.ts';
import type { LayerWish } from '../../src/snapshotter/layer-provider.ts';

const ref = 'containerd.io/snapshot.ref';
const chain = (at: number) => `sha256:${at.toString(16).padStart(64, '0')}`;
const exists = expect.objectContaining({ code: status.ALREADY_EXISTS });

async function pull(client: SnapshotsClient, at: number, parent = '', key = `default/1/extract-${at}`): Promise<void> {
  await expect(client.prepare(key, parent, { [ref]: chain(at), other: 'label' })).rejects.toEqual(exists);
}

/** As containerd finds what it was told of. */
async function found(client: SnapshotsClient, at: number, parent = ''): Promise<string> {
  const infos = await client.list(`labels."${ref}"==${chain(at)},parent==${JSON.stringify(parent)}`);
  expect(infos).toHaveLength(1);
  expect(infos[0]).toMatchObject({ kind: Kind.COMMITTED, parent, labels: { [ref]: chain(at), other: 'label' } });
  return infos[0]?.name ?? '';
}

const outcomes = ({ snapshotter }: SnapshotsWorld) =>
  Object.fromEntries(Object.entries(snapshotter.status().outcomes).filter(([, count]) => count > 0));

describe('a Prepare of a layer', () => {
  it('leaves nothing to containerd where the layer can be had', async () => {
    const reports: PrepareReport[] = [];
    const world = await snapshotsWorld({ onOutcome: (report) => reports.push(report) });
    const { client, layers } = world;
    const offered = [1, 2, 3].map((at) => layers.offer(chain(at)));
    let parent = '';
    for (const at of [1, 2, 3]) {
      await pull(client, at, parent);
      parent = await found(client, at, parent);
    }
    expect(layers.wishes.map(({ below }) => below)).toEqual([
      [],
      [offered[0]?.slot],
      [offered[0]?.slot, offered[1]?.slot],
    ]);
    const [mount] = await client.prepare('default/4/container', parent);
    const lower = offered
      .map(({ directory }) => directory)
      .toReversed()
      .join(':');
    expect(mount?.options).toContain(`lowerdir=${lower}`);
    expect(await client.mounts('default/4/container')).toEqual([mount]);
    const [view] = await client.view('default/5/view', await found(client, 1));
    expect(view).toMatchObject({ type: 'bind', source: offered[0]?.directory, options: ['ro', 'rbind'] });
    expect(outcomes(world)).toEqual({ served: 3 });
    expect(reports.map(({ outcome }) => outcome)).toEqual(['served', 'served', 'served']);
    expect(world.snapshotter.status()).toMatchObject({ snapshots: { active: 1, view: 1, committed: 3 }, left: [] });
  });

  it('is one snapshot for two namespaces, and its own above another parent', async () => {
    const world = await snapshotsWorld();
    const { client, layers } = world;
    for (const at of [1, 2, 3]) layers.offer(chain(at));
    await pull(client, 1, '', 'default/1/a');
    await pull(client, 1, '', 'k8s.io/2/b');
    expect(layers.wishes).toHaveLength(1);
    await pull(client, 2);
    const [one, two] = [await found(client, 1), await found(client, 2)];
    await pull(client, 3, one, 'default/3/x');
    await pull(client, 3, two, 'default/4/x');
    expect(await found(client, 3, one)).not.toBe(await found(client, 3, two));
    expect(outcomes(world)).toEqual({ served: 4, found: 1 });
  });

  it('is one snapshot for calls that come together', async () => {
    const { client, layers } = await snapshotsWorld();
    const slot = layers.makeSlot();
    const all = new Deferred<void>();
    layers.answer(chain(1), async () => {
      if (layers.wishes.length === 6) all.resolve();
      await all.promise;
      return { kind: 'served', slot, image: 'app:1', layer: parseDigest(chain(9)) };
    });
    await Promise.all(Array.from({ length: 6 }, (_, at) => pull(client, 1, '', `ns${at}/1/x`)));
    expect(await client.list()).toHaveLength(1);
    expect(layers.freed).toEqual([]);
    await client.remove(await found(client, 1));
    expect(layers.freed).toEqual([slot]);
  });

  it('leaves the layer to containerd where it cannot, and remembers why', async () => {
    const world = await snapshotsWorld();
    const { client, layers } = world;
    const labels = { [ref]: chain(1) };
    const mounts = await client.prepare('default/1/extract', '', labels);
    expect(mounts).toMatchObject([{ type: 'bind', options: ['rw', 'rbind'] }]);
    await client.commit('default/2/layer', 'default/1/extract', labels);
    const left = { image: 'registry.test/app:1', layer: undefined, reason: 'registry.test/app has no index' };
    expect(world.snapshotter.status()).toMatchObject({ left: [{ key: 'default/2/layer', ...left }] });
    expect(outcomes(world)).toEqual({ no_index: 1 });
    // The same directory serves another namespace, too.
    await expect(client.prepare('k8s.io/3/extract', '', labels)).rejects.toEqual(exists);
    layers.offer(chain(2));
    await pull(client, 2, 'default/2/layer');
    expect(layers.wishes.at(-1)?.below).toEqual([undefined]);
    await world.close();
    const { snapshotter } = await snapshotsWorld({ root: world.root });
    expect(snapshotter.status()).toMatchObject({ left: [{ key: 'default/2/layer', ...left }] });
  });

  it('makes a layer again that is a snapshot and not mounted, above which no container starts meanwhile', async () => {
    const world = await snapshotsWorld();
    const { client, layers } = world;
    const { slot, directory } = layers.offer(chain(1));
    await pull(client, 1, '', 'default/1/a');
    const name = await found(client, 1);
    await client.prepare('default/2/before', name);
    layers.refusals.set(slot, 'layer sha256:1 is not mounted: its index is gone');
    const refused = expect.objectContaining({
      code: status.UNAVAILABLE,
      details: expect.stringMatching(/its index is gone; remove the image and pull it again/),
    });
    await expect(client.prepare('default/3/new', name)).rejects.toEqual(refused);
    await expect(client.view('default/4/view', name)).rejects.toEqual(refused);
    await expect(client.mounts('default/2/before')).rejects.toEqual(refused);
    await expect(client.stat('default/3/new')).rejects.toMatchObject({ code: status.NOT_FOUND });
    layers.answer(chain(1), () => {
      layers.refusals.clear();
      return { kind: 'served', slot, image: 'app:1', layer: parseDigest(chain(9)) };
    });
    await pull(client, 1, '', 'k8s.io/5/b');
    expect(await found(client, 1)).toBe(name);
    const [mount] = await client.mounts('default/2/before');
    expect(mount?.options).toContain(`lowerdir=${directory}`);
    expect(layers.freed).toEqual([]);
    // Its index may be another one by now, and so its mount.
    layers.refusals.set(slot, 'layer sha256:1 cannot be trusted');
    const other = layers.offer(chain(1));
    await pull(client, 1, '', 'moby/6/c');
    expect(await found(client, 1)).toBe(name);
    const [moved] = await client.mounts('default/2/before');
    expect(moved?.options).toContain(`lowerdir=${other.directory}`);
    expect(layers.freed).toEqual([slot]);
    expect(outcomes(world)).toEqual({ served: 1, found: 2 });
  });

  it('does not ask for what cannot be a layer, a parent or a new key', async () => {
    const world = await snapshotsWorld();
    const { client, layers } = world;
    for (const garbage of ['x', 'sha256:12', `../${chain(1)}`, 'sha256:\0', '💥'.repeat(900)]) {
      await client.prepare(`key ${garbage.slice(0, 9)}`, '', { [ref]: garbage });
    }
    await expect(client.prepare('x', 'nowhere', { [ref]: chain(1) })).rejects.toMatchObject({ code: status.NOT_FOUND });
    await expect(client.prepare('key x', '', { [ref]: chain(1) })).rejects.toEqual(exists);
    await client.prepare('empty', '', { [ref]: '' });
    expect(layers.wishes).toEqual([]);
    expect(outcomes(world)).toEqual({ labels: 5 });
  });

  it('does not wait for longer than it may', async () => {
    const world = await snapshotsWorld({ prepareTimeoutMs: 50 });
    const { client, layers } = world;
    layers.answer(chain(1), () => new Promise(() => {}));
    const cri = 'containerd.io/snapshot/cri';
    const labels = { [ref]: chain(1), [`${cri}.image-ref`]: 'app:1', [`${cri}.layer-digest`]: chain(9) };
    expect(await client.prepare('slow', '', labels)).toHaveLength(1);
    expect(outcomes(world)).toEqual({ timeout: 1 });
    expect(world.snapshotter.status().left).toEqual([
      { key: 'slow', kind: 'active', image: 'app:1', layer: chain(9), reason: 'not ready after 50 ms' },
    ]);
  });

  it('ends with its caller', async () => {
    const { client, layers } = await snapshotsWorld();
    const wished = new Promise<LayerWish>((resolve) => {
      layers.answer(chain(1), (wish) => {
        resolve(wish);
        return new Promise((_, reject) => wish.signal.addEventListener('abort', () => reject(wish.signal.reason)));
      });
    });
    let cancel = () => {};
    const call = client.prepare('key', '', { [ref]: chain(1) }, (made) => (cancel = () => made.cancel()));
    const { signal } = await wished;
    cancel();
    await expect(call).rejects.toMatchObject({ code: status.CANCELLED });
    await vi.waitFor(() => expect(signal.aborted).toBe(true));
    expect(await client.list()).toEqual([]);
  });

  it('makes no snapshot for a caller who went away', async () => {
    const { client, layers, root } = await snapshotsWorld();
    layers.offer(chain(1));
    await pull(client, 1);
    const [asked, answer] = [new Deferred<void>(), new Deferred<undefined>()];
    layers.rootOf = () => {
      asked.resolve();
      return answer.promise;
    };
    let cancel = () => {};
    const call = client.prepare('container', await found(client, 1), {}, (made) => (cancel = () => made.cancel()));
    await asked.promise;
    cancel();
    await expect(call).rejects.toMatchObject({ code: status.CANCELLED });
    // The service has seen it go when it answers another call.
    await client.list();
    answer.resolve(undefined);
    await vi.waitFor(() => expect(readdirSync(`${root}/s`)).toEqual([]));
    await expect(client.stat('container')).rejects.toMatchObject({ code: status.NOT_FOUND });
  });

  it('falls back also when whoever provides layers fails', async () => {
    const world = await snapshotsWorld();
    world.layers.answer(chain(1), () => Promise.reject(new Error('out of luck')));
    expect(await world.client.prepare('key', '', { [ref]: chain(1) })).toHaveLength(1);
    expect(world.snapshotter.status()).toMatchObject({ left: [{ reason: 'out of luck' }], outcomes: { error: 1 } });
  });

  it('gives a slot back that became no snapshot', async () => {
    const world = await snapshotsWorld();
    const { client, layers } = world;
    await client.committed('parent');
    const slot = layers.makeSlot();
    layers.answer(chain(1), async () => {
      await client.remove('parent');
      return { kind: 'served', slot, image: 'app:1', layer: parseDigest(chain(9)) };
    });
    const call = client.prepare('key', 'parent', { [ref]: chain(1) });
    await expect(call).rejects.toMatchObject({ code: status.NOT_FOUND });
    expect(layers.freed).toEqual([slot]);
  });

  it('frees a slot with the last snapshot that shows it', async () => {
    const { client, layers } = await snapshotsWorld();
    const { slot } = layers.offer(chain(1));
    layers.answer(chain(2), () => ({ kind: 'served', slot, image: 'b', layer: parseDigest(chain(7)) }));
    await pull(client, 1);
    await pull(client, 2);
    await client.remove(await found(client, 1));
    expect(layers.freed).toEqual([]);
    expect(await client.usage(await found(client, 2))).toEqual({ size: slot * 1000, inodes: slot });
    await client.remove(await found(client, 2));
    expect(layers.freed).toEqual([slot]);
    await client.cleanup();
    expect(layers.collected).toBe(1);
  });
});
