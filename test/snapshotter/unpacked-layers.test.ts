// Layers that peel unpacks, as containerd has them: committed snapshots with a directory.
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  symlinkSync,
  utimesSync,
} from 'node:fs';
import { chownSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { describe, expect, it, vi } from 'vitest';
import { setXattr, getXattr, mknod } from '../../src/native/sys.ts';
import { Kind } from '../../src/snapshotter/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import type { ProvideOutcome } from '../../src/snapshotter/layer-provider.ts';
import { byteStringFromText } from '../../src/util/byte-string.ts';
import { Deferred } from '../../src/util/deferred.ts';
import { FolderTree } from '../support/folder-tree.ts';
import { SnapshotsClient } from '../support/snapshots-client.ts';
import { snapshotsWorld } from '../support/snapshots-world.ts';
import type { SnapshotsWorld } from '../support/snapshots-world.ts';
import { canMount } from '../support/peel-node.ts';
import { tempDir } from '../support/tmp.ts';

const ref = 'containerd.io/snapshot.ref';
const chain = (at: number) => `sha256:${at.toString(16).padStart(64, '0')}`;
const exists = expect.objectContaining({ code: status.ALREADY_EXISTS });
const reason = 'registry.test/app has no index';

async function pull(client: SnapshotsClient, at: number, parent = '', key = `default/1/extract-${at}`): Promise<void> {
  await expect(client.prepare(key, parent, { [ref]: chain(at) })).rejects.toEqual(exists);
}

async function found(client: SnapshotsClient, at: number, parent = ''): Promise<string> {
  const infos = await client.list(`labels."${ref}"==${chain(at)},parent==${JSON.stringify(parent)}`);
  expect(infos).toHaveLength(1);
  expect(infos[0]).toMatchObject({ kind: Kind.COMMITTED, parent });
  return infos[0]?.name ?? '';
}

let jobs = 0;

/** A tree with a file, unpacked in a folder of its job. */
function unpacked(world: SnapshotsWorld, at: number, implied: readonly string[] = []): FolderTree {
  const job = (jobs += 1);
  const dir = path.join(world.root, 'unpack', job.toString(36), 'fs');
  mkdirSync(dir, { recursive: true });
  writeFileSync(path.join(dir, `file-${at}`), `${at}`);
  return new FolderTree(world.state.snapshots, dir, job, implied);
}

const outcomeOf = (tree: FolderTree): ProvideOutcome => ({
  kind: 'unpacked',
  tree,
  image: 'registry.test/app:1',
  layer: tree.layer,
  reason,
});

function offer(world: SnapshotsWorld, at: number, implied: readonly string[] = []): FolderTree {
  const tree = unpacked(world, at, implied);
  world.layers.answer(chain(at), () => outcomeOf(tree));
  return tree;
}

const rowOf = (world: SnapshotsWorld, name: string) => world.snapshotter.stat(name);
const directoryOf = (world: SnapshotsWorld, name: string) =>
  path.join(world.root, 's', rowOf(world, name).id.toString(36), 'fs');
const outcomes = ({ snapshotter }: SnapshotsWorld) =>
  Object.fromEntries(Object.entries(snapshotter.status().outcomes).filter(([, count]) => count > 0));

describe('a layer that peel unpacked', () => {
  it('has no directories that only hide what is not below, and those that do look like the ones below', async () => {
    const world = await snapshotsWorld();
    const base = offer(world, 1);
    mkdirSync(path.join(base.dir, 'there'), { mode: 0o711 });
    await pull(world.client, 1);
    const paths = ['there', 'nowhere', 'nowhere/deeper'];
    const tree = offer(world, 2, paths);
    tree.hiding = paths.map(byteStringFromText);
    for (const name of paths) {
      mkdirSync(path.join(tree.dir, name));
      writeFileSync(path.join(tree.dir, name, 'hidden'), '');
    }
    await pull(world.client, 2, chain(1));
    const top = directoryOf(world, await found(world.client, 2, chain(1)));
    expect(readdirSync(top).toSorted()).toEqual(['file-2', 'there']);
    expect(lstatSync(path.join(top, 'there')).mode & 0o777).toBe(0o711);
  });

  it('is a committed snapshot, and its directory is the tree itself', async () => {
    const world = await snapshotsWorld();
    const { client } = world;
    const trees = [1, 2].map((at) => offer(world, at));
    const inodes = trees.map(({ dir }) => lstatSync(dir).ino);
    await pull(client, 1);
    const bottom = await found(client, 1);
    await pull(client, 2, bottom);
    const top = await found(client, 2, bottom);
    const directories = [bottom, top].map((name) => directoryOf(world, name));
    expect(directories.map((dir) => lstatSync(dir).ino)).toEqual(inodes);
    expect(readFileSync(path.join(directories[1] ?? '', 'file-2'), 'utf8')).toBe('2');
    expect(trees.map(({ dir }) => existsSync(dir))).toEqual([false, false]);
    const [mount] = await client.prepare('container', top);
    expect(mount?.options).toContain(`lowerdir=${directories.toReversed().join(':')}`);
    expect(outcomes(world)).toEqual({ unpacked: 2 });
    expect(world.snapshotter.status()).toMatchObject({
      left: [],
      unpacked: [
        { key: bottom, kind: 'committed', image: 'registry.test/app:1', reason },
        { key: top, layer: trees[1]?.layer },
      ],
    });
    expect(rowOf(world, top)).toMatchObject({ unpacked: true, unsynced: 'this boot', slot: undefined });
    expect((await client.usage(top)).inodes).toBe(2);
    await pull(client, 2, bottom, 'k8s.io/1/extract');
    expect(outcomes(world)).toEqual({ unpacked: 2, found: 1 });
    for (const name of ['container', top, bottom]) await client.remove(name);
    await client.cleanup();
    expect(readdirSync(`${world.root}/s`)).toEqual([]);
  });

  it('is not put in the place of anything', async () => {
    const world = await snapshotsWorld();
    const tree = offer(world, 1);
    tree.around = (take) => {
      const fresh = readdirSync(`${world.root}/s`).find((name) => name.startsWith('new-')) ?? '';
      writeFileSync(path.join(world.root, 's', fresh, 'fs', 'poison'), '');
      return take();
    };
    expect(await world.client.prepare('key', '', { [ref]: chain(1) })).toHaveLength(1);
    expect(outcomes(world)).toEqual({ error: 1 });
    expect(world.snapshotter.status()).toMatchObject({
      unpacked: [],
      left: [{ reason: expect.stringMatching(/ENOTEMPTY/) }],
    });
    expect(readdirSync(tree.dir)).toEqual(['file-1']);
    expect(tree.released).toBe(1);
  });

  it('stays where it is when its snapshot cannot be recorded', async () => {
    const world = await snapshotsWorld();
    const tree = offer(world, 1);
    tree.around = (take) => {
      take();
      throw Object.assign(new Error('disk I/O error'), { code: 'SQLITE_IOERR' });
    };
    expect(await world.client.prepare('key', '', { [ref]: chain(1) })).toHaveLength(1);
    expect(outcomes(world)).toEqual({ disk: 1 });
    expect(readdirSync(tree.dir)).toEqual(['file-1']);
    await world.client.remove('key');
    await world.client.cleanup();
    expect(readdirSync(`${world.root}/s`)).toEqual([]);
    tree.around = (take) => take();
    await pull(world.client, 1);
    expect(readdirSync(directoryOf(world, await found(world.client, 1)))).toEqual(['file-1']);
  });

  it('is one snapshot for calls that come together, and is unpacked once more above another parent', async () => {
    const world = await snapshotsWorld();
    const { client, layers } = world;
    await client.committed('a');
    await client.committed('b');
    const shared = unpacked(world, 1);
    let asked = 0;
    const all = new Deferred<void>();
    layers.answer(chain(1), async () => {
      if ((asked += 1) === 4) all.resolve();
      await all.promise;
      return outcomeOf(asked > 4 ? unpacked(world, 1) : shared);
    });
    await Promise.all(['a', 'a', 'b', 'b'].map((parent, i) => pull(client, 1, parent, `ns${i}/1/x`)));
    const both = await Promise.all(['a', 'b'].map((parent) => found(client, 1, parent)));
    expect(new Set(both).size).toBe(2);
    for (const name of both) expect(readdirSync(directoryOf(world, name))).toEqual(['file-1']);
    expect(outcomes(world)).toMatchObject({ unpacked: 2, found: 2 });
  });

  it('is left to containerd when others take it again and again', async () => {
    const world = await snapshotsWorld();
    world.layers.answer(chain(1), () => {
      const tree = unpacked(world, 1);
      tree.claim(() => {});
      return outcomeOf(tree);
    });
    expect(await world.client.prepare('key', '', { [ref]: chain(1) })).toHaveLength(1);
    expect(world.layers.wishes).toHaveLength(3);
    expect(outcomes(world)).toEqual({ error: 1 });
  });

  it('is waited for as long as it takes, and what is not unpacked is not', async () => {
    const world = await snapshotsWorld({ prepareTimeoutMs: 50 });
    const tree = unpacked(world, 1);
    world.layers.answer(chain(1), async ({ onUnpacking }) => {
      onUnpacking?.();
      await delay(150);
      return outcomeOf(tree);
    });
    world.layers.answer(chain(2), () => delay(150, outcomeOf(unpacked(world, 2))));
    await pull(world.client, 1);
    expect(await world.client.prepare('slow', '', { [ref]: chain(2) })).toHaveLength(1);
    expect(outcomes(world)).toEqual({ unpacked: 1, timeout: 1 });
  });

  it('is released when its caller went away, also when it comes afterwards', async () => {
    const world = await snapshotsWorld();
    const tree = unpacked(world, 1);
    const [asked, answer] = [new Deferred<void>(), new Deferred<ProvideOutcome>()];
    world.layers.answer(chain(1), () => (asked.resolve(), answer.promise));
    let cancel = () => {};
    const call = world.client.prepare('key', '', { [ref]: chain(1) }, (made) => (cancel = () => made.cancel()));
    await asked.promise;
    cancel();
    await expect(call).rejects.toMatchObject({ code: status.CANCELLED });
    await world.client.list();
    answer.resolve(outcomeOf(tree));
    await vi.waitFor(() => expect(tree.released).toBe(1));
    expect(await world.client.list()).toEqual([]);
    expect(existsSync(tree.dir)).toBe(true);
  });

  it('knows the namespace of who asks, and no garbage', async () => {
    const world = await snapshotsWorld();
    for (const namespace of ['k8s.io', 'a b', 'x'.repeat(77), '']) {
      const client = new SnapshotsClient(world.socket, { namespace, snapshotter: 'peel' });
      await client.prepare(`key ${namespace}`, '', { [ref]: chain(1) });
      client.close();
    }
    // As containerd has keys, and as it has none.
    for (const key of ['key', 'moby/7/key', 'a b/7/key', '../7/key', '/7/key', 'moby/x/key', 'moby/7'])
      await world.client.prepare(key, '', { [ref]: chain(1) });
    const client = new SnapshotsClient(world.socket, { namespace: 'k8s.io', snapshotter: 'peel' });
    await client.prepare('moby/8/key', '', { [ref]: chain(1) });
    client.close();
    const none = (length: number) => Array.from({ length }, () => undefined);
    expect(world.layers.wishes.map(({ namespace }) => namespace)).toEqual([
      'k8s.io',
      ...none(4),
      'moby',
      ...none(5),
      'k8s.io',
    ]);
  });
});

describe.skipIf(!canMount)('directories that a layer does not describe', () => {
  const opaque = 'trusted.overlay.opaque';

  /** A committed directory with these directories, each of its own mode and owner. */
  async function committed(world: SnapshotsWorld, name: string, parent: string, make: (dir: string) => void) {
    await world.client.committed(name, parent);
    make(directoryOf(world, name));
    return name;
  }
  function described(dir: string, mode: number): void {
    mkdirSync(dir);
    chmodSync(dir, mode);
    chownSync(dir, mode, mode + 1);
    setXattr(dir, 'user.from', Buffer.from(`${mode}`));
    setXattr(dir, 'trusted.overlay.origin', Buffer.from(''));
    utimesSync(dir, 1.5, 1.5);
  }
  const seen = (dir: string) => {
    const { mode, uid, gid, mtimeMs } = lstatSync(dir);
    return [mode & 0o7777, uid, gid, mtimeMs];
  };

  it('look like the topmost ones below', async () => {
    const world = await snapshotsWorld();
    const { client, layers } = world;
    await committed(world, 'low', '', (dir) => {
      for (const name of ['a', 'a/b', 'gone', 'opaque', 'opaque/in', 'own', 'own/in'])
        described(path.join(dir, name), 0o700);
      setXattr(dir, 'user.root', Buffer.from('low'));
      chmodSync(dir, 0o711);
    });
    // A layer that is shown by its slot.
    const { directory } = layers.offer(chain(1));
    described(path.join(directory, 'a'), 0o1755);
    described(path.join(directory, 'opaque'), 0o750);
    setXattr(path.join(directory, 'opaque'), opaque, Buffer.from('y'));
    mknod(path.join(directory, 'gone'), 0o020000, 0, 0);
    chmodSync(directory, 0o2755);
    await pull(client, 1, 'low');
    const tree = offer(world, 2, ['', 'a', 'a/b', 'gone', 'opaque', 'opaque/in', 'own/in', 'nowhere']);
    for (const name of ['a', 'a/b', 'gone', 'opaque', 'opaque/in', 'own', 'own/in', 'nowhere']) {
      mkdirSync(path.join(tree.dir, name));
      chmodSync(path.join(tree.dir, name), 0o755);
    }
    setXattr(path.join(tree.dir, 'own'), opaque, Buffer.from('y'));
    const parent = await found(client, 1, 'low');
    await pull(client, 2, parent);
    const dir = directoryOf(world, await found(client, 2, parent));
    const modes = ['.', 'a', 'a/b', 'gone', 'opaque', 'opaque/in', 'own/in', 'nowhere'].map(
      (name) => seen(path.join(dir, name))[0],
    );
    expect(modes).toEqual([0o2755, 0o1755, 0o700, 0o755, 0o750, 0o755, 0o755, 0o755]);
    expect(seen(path.join(dir, 'a'))).toEqual([0o1755, 0o1755, 0o1756, 1500]);
    expect(getXattr(path.join(dir, 'a'), 'user.from').toString()).toBe(String(0o1755));
    expect(() => getXattr(path.join(dir, 'a'), 'trusted.overlay.origin')).toThrow(/ENODATA|No data/);
    expect(() => getXattr(path.join(dir, 'opaque'), opaque)).toThrow(/ENODATA|No data/);
  });

  it('must be directories below, which no link leads to', async () => {
    const world = await snapshotsWorld();
    const { client } = world;
    const outside = tempDir('peel-outside-');
    described(path.join(outside, 'in'), 0o700);
    await committed(world, 'low', '', (dir) => symlinkSync(outside, path.join(dir, 'link')));
    const tree = offer(world, 1, ['link']);
    mkdirSync(path.join(tree.dir, 'link'));
    await client.prepare('key', 'low', { [ref]: chain(1) });
    expect(outcomes(world)).toEqual({ layer: 1 });
    expect(world.snapshotter.status().left).toMatchObject([{ reason: expect.stringMatching(/link.* is a symlink/) }]);
    expect(tree.released).toBe(1);
    // It brings the directory itself, and what is in it has nothing below.
    const other = offer(world, 2, ['link/in']);
    mkdirSync(path.join(other.dir, 'link/in'), { recursive: true });
    chmodSync(path.join(other.dir, 'link/in'), 0o755);
    await pull(client, 2, 'low');
    const dir = directoryOf(world, await found(client, 2, 'low'));
    expect(seen(path.join(dir, 'link/in'))[0]).toBe(0o755);
  });
});

describe('a machine that goes down', () => {
  it('takes no layer for whole that may not be on disk, and has it pulled again', async () => {
    const before = await snapshotsWorld({ boot: 'first', syncFilesystem: () => Promise.reject(new Error('cut off')) });
    offer(before, 1);
    await pull(before.client, 1);
    const name = await found(before.client, 1);
    await before.close();
    const world = await snapshotsWorld({ root: before.root, boot: 'second' });
    const { client } = world;
    const refused = expect.objectContaining({
      code: status.UNAVAILABLE,
      details: expect.stringMatching(/still being written.* remove the image and pull it again/),
    });
    await expect(client.prepare('container', name)).rejects.toEqual(refused);
    await expect(client.view('view', name)).rejects.toEqual(refused);
    const tree = offer(world, 1);
    writeFileSync(path.join(tree.dir, 'anew'), '');
    await pull(client, 1);
    expect(await found(client, 1)).toBe(name);
    expect(readdirSync(directoryOf(world, name)).toSorted()).toEqual(['anew', 'file-1']);
    expect(rowOf(world, name).unsynced).toBe('second');
    await client.prepare('container', name);
    await client.cleanup();
    expect(readdirSync(`${world.root}/s`)).toHaveLength(2);
  });

  it('may show the layer by a slot instead, and the directory goes', async () => {
    const before = await snapshotsWorld({ boot: 'first', syncFilesystem: () => Promise.reject(new Error('cut off')) });
    offer(before, 1);
    await pull(before.client, 1);
    await before.close();
    const world = await snapshotsWorld({ root: before.root, boot: 'second' });
    const { slot, directory } = world.layers.offer(chain(1));
    await pull(world.client, 1);
    const name = await found(world.client, 1);
    expect(rowOf(world, name)).toMatchObject({ slot, unpacked: false, unsynced: undefined, reason: undefined });
    expect((await world.client.view('view', name))[0]?.source).toBe(directory);
    await world.client.cleanup();
    expect(readdirSync(`${world.root}/s`)).toEqual([]);
    // And back: its mount is lost.
    world.layers.refusals.set(slot, 'not mounted');
    offer(world, 1);
    await pull(world.client, 1);
    expect(rowOf(world, name)).toMatchObject({ slot: undefined, unpacked: true });
    expect(world.layers.freed).toEqual([slot]);
  });

  it('in order loses nothing', async () => {
    const synced: string[] = [];
    const before = await snapshotsWorld({ boot: 'first', syncFilesystem: async (root) => void synced.push(root) });
    offer(before, 1);
    await pull(before.client, 1);
    await before.close();
    expect(synced).toEqual([before.root]);
    const world = await snapshotsWorld({ root: before.root, boot: 'second' });
    await world.client.prepare('container', await found(world.client, 1));
  });
});
