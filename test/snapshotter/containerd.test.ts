// Debian's containerd with the service as its snapshotter.
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { Diff } from '../../src/snapshotter/gen/containerd/services/diff/v1/diff_pb.ts';
import { Containerd } from '../support/containerd.ts';
import { makeFixture } from '../support/fixtures.ts';
import { buildImage, writeLayout } from '../support/image-builder.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { inSnapshot } from '../support/mounted-snapshot.ts';
import { unpackWithUmoci } from '../support/reference-tree.ts';
import { digestOf } from '../support/registry-content.ts';
import { runOk } from '../support/run.ts';
import { SnapshotsClient } from '../support/snapshots-client.ts';
import { openSnapshotsWorld } from '../support/snapshots-world.ts';
import type { SnapshotsWorld } from '../support/snapshots-world.ts';
import { layersOf } from '../support/test-registry.ts';
import { keptTempDir } from '../support/tmp.ts';

const ref = 'containerd.io/snapshot.ref';
const gcRoot = 'containerd.io/gc.root';
const chain = (at: number) => `sha256:${at.toString(16).padStart(64, '0')}`;

/** The chain ID of layers by their diffIDs (OCI image-spec, config.md#layer-chainid). */
const chainOf = (diffIds: readonly string[]) =>
  diffIds.reduce((chainId, diffId) => digestOf(Buffer.from(`${chainId} ${diffId}`)));

/** Without what containerd and overlayfs have their own way with: times, numbers of links, and names of one inode in several layers. */
const comparable = (lines: readonly string[]) =>
  lines.slice(1).map((line) => line.split('\t').toSpliced(7, 2).toSpliced(5, 1).join('\t'));

describe('as the snapshotter of containerd', () => {
  const work = keptTempDir('peel-ctrd-snap-');
  let world: SnapshotsWorld;
  let containerd: Containerd;
  let tars: readonly string[];
  const directories = () => readdirSync(path.join(work.path, 's'));

  const importImage = async (name: string, layers: readonly string[], ...flags: string[]) => {
    const dir = path.join(work.path, name);
    const image = await buildImage(path.join(dir, 'blobs'), layersOf(layers, 'gzip'));
    await writeLayout(path.join(dir, 'layout'), 'v1', image);
    await runOk('tar', ['-C', path.join(dir, 'layout'), '-cf', `${dir}/tar`, '.']);
    await containerd.ctr('images', 'import', '--base-name', name, ...flags, `${dir}/tar`);
    return image;
  };

  const inNamespace = (namespace: string) => {
    const client = new SnapshotsClient(`${containerd.dir}/socket`, { namespace, snapshotter: 'peel' });
    onTestFinished(() => client.close());
    return client;
  };

  beforeAll(async () => {
    world = await openSnapshotsWorld(work.path);
    tars = await makeFixture('zoo', path.join(work.path, 'tars'));
    containerd = await Containerd.start({ proxy: { name: 'peel', socket: world.socket, root: work.path } });
  });
  afterAll(async () => {
    expect(await containerd.close()).toEqual([]);
    await world.close();
    work[Symbol.dispose]();
  });

  /** The tree that a container of the image would have. */
  const shown = async (client: SnapshotsClient, top: string) => {
    const list = new URL('../support/list-tree.py', import.meta.url).pathname;
    const mounts = await client.prepare('container', top, { [gcRoot]: 'now' });
    const { out, err } = await inSnapshot(mounts, `python3 ${list} --overlay .`);
    expect(err).toBe('');
    await client.remove('container');
    return comparable(out.split('\n').slice(0, -1));
  };

  const free = async (image: string) => {
    await containerd.ctr('images', 'rm', '--sync', image);
    await vi.waitFor(() => expect(directories()).toEqual([]), { timeout: 20_000 });
    expect(await world.client.list()).toEqual([]);
  };

  it('it takes an image that containerd unpacks, and frees it', async () => {
    const two = tars.filter((tar) => /ustar|upper/.test(tar));
    const image = await importImage('unpacked', two, '--snapshotter', 'peel');
    const listed = await containerd.ctr('snapshots', '--snapshotter', 'peel', 'ls');
    expect(listed.match(/Committed/g)).toHaveLength(two.length);
    const seen = await shown(inNamespace('default'), chainOf(image.layers.map(({ diffId }) => diffId)));
    expect(seen.length).toBeGreaterThan(200);
    const usage = await containerd.ctr('snapshots', '--snapshotter', 'peel', 'usage', '-b');
    expect(usage.match(/^.*sha256:\w+\s+[1-9]\d+\s+[1-9]/gm)).toHaveLength(two.length);
    await free('unpacked:v1');
    expect(world.snapshotter.status().left).toEqual([]);
  });

  it('it has containerd unpack a layer with a hard link into a lower one, which it could not by itself', async () => {
    const { layers } = world;
    const image = await importImage('linked', tars, '--no-unpack');
    const client = inNamespace('default');
    const chainIds: string[] = [];
    for (const { source, diffId, descriptor } of image.layers) {
      const parent = chainIds.at(-1) ?? '';
      const chainId = chainOf([...chainIds.slice(-1), diffId]);
      const code = source.tar === tars.at(-1) ? 'layer' : 'no_index';
      layers.answer(chainId, () => ({ kind: 'deferred', code, reason: code, image: undefined, layer: undefined }));
      const labels = { [ref]: chainId, [gcRoot]: 'now' };
      const mounts = await client.prepare('extract', parent, labels);
      const { mediaType, digest, size } = descriptor;
      await client.call(Diff.method.apply, { diff: { mediaType, digest, size: BigInt(size) }, mounts });
      await client.commit(chainId, 'extract', labels);
      chainIds.push(chainId);
    }
    const reference = await unpackWithUmoci(path.join(work.path, 'reference'), tars);
    expect(treeDifference(await shown(client, chainIds.at(-1) ?? ''), comparable(await listTree(reference)))).toBe('');
    expect(world.snapshotter.status().left).toHaveLength(tars.length);
    for (const chainId of chainIds.toReversed()) await client.remove(chainId);
    await free('linked:v1');
  });

  it('it shows layers that nobody unpacked, in two namespaces', async () => {
    const { layers } = world;
    const asked = layers.wishes.length;
    for (const at of [1, 2, 3]) writeFileSync(path.join(layers.offer(chain(at)).directory, String(at)), 'x');
    for (const client of [inNamespace('one'), inNamespace('two')]) {
      let parent = '';
      for (const at of [1, 2, 3]) {
        const labels = { [ref]: chain(at), [gcRoot]: 'now' };
        const call = client.prepare(`extract-${at} ${chain(at)}`, parent, labels);
        await expect(call).rejects.toMatchObject({ code: status.ALREADY_EXISTS });
        // This is how containerd learns that there is nothing to fetch.
        expect(await client.stat(chain(at))).toMatchObject({ name: chain(at), parent });
        parent = chain(at);
      }
      const mounts = await client.prepare('container', parent, { [gcRoot]: 'now' });
      expect(await inSnapshot(mounts, 'ls; rm 2; echo y > 3')).toMatchObject({ out: '1\n2\n3\n', err: '' });
      expect(await inSnapshot(await client.mounts('container'), 'ls; cat 3')).toMatchObject({ out: '1\n3\ny\n' });
    }
    expect(layers.wishes.length - asked).toBe(3);
    expect(await world.client.names('kind==committed')).toHaveLength(3);
    expect(await world.client.names('kind==active')).toEqual([
      expect.stringMatching(/^one\/\d+\/container$/),
      expect.stringMatching(/^two\/\d+\/container$/),
    ]);

    const [one, two] = [inNamespace('one'), inNamespace('two')];
    for (const key of ['container', chain(3), chain(2), chain(1)]) await one.remove(key);
    // The other namespace still has them.
    expect(await inSnapshot(await two.mounts('container'), 'ls')).toMatchObject({ out: '1\n3\n' });
    expect(layers.freed).toEqual([]);
    for (const key of ['container', chain(3), chain(2), chain(1)]) await two.remove(key);
    // Its garbage collector runs now, and not when it thinks best.
    await containerd.ctrIn('two', 'leases', 'create', '--id', 'gone');
    await containerd.ctrIn('two', 'leases', 'delete', '--sync', 'gone');
    await vi.waitFor(() => expect(layers.freed).toHaveLength(3), { timeout: 20_000 });
    await vi.waitFor(() => expect(directories()).toEqual([]), { timeout: 20_000 });
    expect(existsSync(layers.directory(1))).toBe(true);
  });
});
