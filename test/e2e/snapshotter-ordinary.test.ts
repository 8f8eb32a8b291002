// Layers that are left to containerd: they work as with its own snapshotter, and the daemon says why.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Snapshots } from '../../src/snapshotter/gen/containerd/services/snapshots/v1/snapshots_pb.ts';
import { layerBytesSent } from '../support/container-image.ts';
import { GrpcClient } from '../support/grpc-client.ts';
import { canMount } from '../support/peel-node.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';

describe.skipIf(!canMount)('in mode lazy an image that cannot be lazy', () => {
  let world: SnapshotterWorld;

  beforeAll(async () => {
    const config = ['[snapshotter]', 'mode = "lazy"', 'whole_layer_limit = "0B"'];
    world = await SnapshotterWorld.start({ config: () => config });
  });
  beforeEach(() => world.explainFailure());
  afterAll(async () => expect(await world.close()).toEqual([]));

  it('pulled by ctr, which says nothing of the image, runs', async () => {
    const { containerd, daemon } = world;
    const { reference } = await world.image('plain', [[{ name: 'data/file', data: 'plain\n' }]]);
    await containerd.ctr('image', 'pull', '--plain-http', '--snapshotter', 'peel', reference);
    const { out } = await containerd.run(reference, [
      'sh',
      '-c',
      'cat /data/file; echo x > /data/file; cat /data/file',
    ]);
    expect(out).toBe('plain\nx\n');
    expect((await daemon.status()).layers).toEqual([]);
    await containerd.ctr('image', 'rm', '--sync', reference);
  });

  it('without an index runs, says so, and is lazy when an index has appeared and it is pulled again', async () => {
    const { containerd, daemon, registry } = world;
    const unread = { name: 'unread', data: randomBytes(4 << 20) };
    const image = await world.image('late', [[{ name: 'data/file', data: 'late\n' }, unread]], { indexed: false });
    const command = ['sh', '-c', 'cat /data/file'];
    await containerd.cri.pull(image.reference);
    expect((await containerd.run(image.reference, command, { namespace: 'k8s.io' })).out).toBe('late\n');
    const { layers, deferred, deferrals } = await daemon.status();
    expect(layers).toEqual([]);
    expect(deferred).toHaveLength(image.layers.length);
    expect(deferrals['no_index']).toBe(image.layers.length);
    expect(deferred.at(-1)?.reason).toMatch(/index/);

    await containerd.cri.remove(image.reference);
    expect(await containerd.snapshots('k8s.io')).toEqual([]);
    await world.index(image.reference);
    registry.front.forget();
    await containerd.cri.pull(image.reference);
    expect((await daemon.status()).layers).toHaveLength(image.layers.length);
    expect((await containerd.run(image.reference, command, { namespace: 'k8s.io' })).out).toBe('late\n');
    const sent = layerBytesSent(registry, image);
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(image.layerBytes - (3 << 20));
  });

  it('because its labels are garbage gets snapshots like any other, and the daemon lives', async () => {
    const { containerd, daemon, registry } = world;
    // It would remove snapshots that it does not know.
    await containerd.stop();
    const client = new GrpcClient(daemon.socket);
    const { prepare, commit, remove, stat } = Snapshots.method;
    registry.front.forget();
    const cri = (name: string) => `containerd.io/snapshot/cri.${name}`;
    const digest = `sha256:${'0'.repeat(64)}`;
    const right = {
      'containerd.io/snapshot.ref': digest,
      [cri('image-ref')]: `${registry.front.host}/nobody:1`,
      [cri('manifest-digest')]: digest,
      [cri('layer-digest')]: digest,
      [cri('image-layers')]: digest,
    };
    const garbage: Record<string, string>[] = [
      { 'containerd.io/snapshot.ref': '' },
      { 'containerd.io/snapshot.ref': '../../etc' },
      { 'containerd.io/snapshot.ref': digest },
      { ...right, [cri('image-ref')]: '::://' },
      { ...right, [cri('image-ref')]: `file:///etc/passwd` },
      { ...right, [cri('manifest-digest')]: 'sha256:zz' },
      { ...right, [cri('manifest-digest')]: `md5:${'0'.repeat(32)}` },
      { ...right, [cri('layer-digest')]: '\0' },
      { ...right, [cri('image-layers')]: ','.repeat(4000) },
      { ...right, 'containerd.io/snapshot/remote/soci.index.digest': 'latest' },
      { ...right, __proto__x: 'x', constructor: 'y' },
      right,
    ];
    for (const [i, labels] of garbage.entries()) {
      const key = `garbage-${i}`;
      const { mounts } = await client.call(prepare, { snapshotter: 'peel', key, labels });
      expect({ i, types: mounts.map(({ type }) => type) }).toEqual({ i, types: ['bind'] });
      await client.call(commit, { snapshotter: 'peel', key, name: `name-${i}` });
      expect((await client.call(stat, { snapshotter: 'peel', key: `name-${i}` })).info?.name).toBe(`name-${i}`);
      await client.call(remove, { snapshotter: 'peel', key: `name-${i}` });
    }
    const tooLong = { ...right, [cri('image-layers')]: ','.repeat(5000) };
    await expect(client.call(prepare, { snapshotter: 'peel', key: 'long', labels: tooLong })).rejects.toThrow(/4096/);
    client.close();
    expect((await daemon.status()).layers.map(({ image }) => image)).not.toContain(right[cri('image-ref')]);
  });
});
