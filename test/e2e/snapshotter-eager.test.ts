// Images without an index over Debian's containerd: peel unpacks them itself, as its default mode says.
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { StatusReport } from '../../src/daemon/status-report.ts';
import { changedAnswer, changedLower, changedUpper, changingScript } from '../support/changed-files.ts';
import { layerBytesSent, type PushedImage } from '../support/container-image.ts';
import { holdBlobs } from '../support/held-blobs.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { runOk } from '../support/run.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';
import { tempDir } from '../support/tmp.ts';

/** Cannot be compressed. */
const bytes = (name: string, size: number) => ({ name, data: randomBytes(size) });
const digestsOf = ({ layers }: PushedImage) => layers.map(({ descriptor }) => descriptor.digest);
const cat = (file: string) => ['sh', '-c', `cat ${file}`];
const unindexed = { indexed: false };

describe.skipIf(!canMount)('an image without an index', () => {
  let world: SnapshotterWorld;
  const publishing = ['[index]', 'publish = true'];

  beforeAll(async () => {
    world = await SnapshotterWorld.start({ config: () => publishing, unpack: ['chunk_size = "1MiB"'] });
  });
  beforeEach(() => {
    world.explainFailure();
    world.registry.front.forget();
  });
  afterAll(async () => expect(await world.close()).toEqual([]));

  async function report(): Promise<StatusReport> {
    return JSON.parse(await world.daemon.ok(['status', '--json'])) as StatusReport;
  }

  async function pullJson(reference: string): Promise<{ layers: { how: string; unpackedBy?: string }[] }> {
    const args = ['pull', reference, '--address', world.containerd.socket, '--json'];
    return JSON.parse(await world.daemon.ok(args)) as { layers: { how: string; unpackedBy?: string }[] };
  }

  /** Nothing is left to do for layers that are in use. */
  async function settled(): Promise<void> {
    const busy = async () =>
      (await report()).unpacking?.jobs.filter(({ state }) => state === 'in_progress' || state === 'claimed');
    await vi.waitFor(async () => expect(await busy()).toEqual([]), { timeout: 20_000, interval: 200 });
  }

  it('pulled by CRI runs from directories that containers may change, and no byte of it is fetched twice', async () => {
    const { containerd, daemon, registry } = world;
    const image = await world.image('plain', [changedLower, changedUpper], unindexed);
    await containerd.cri.pull(image.reference);
    for (const round of ['first', 'second']) {
      const { out, err } = await containerd.run(image.reference, ['sh', '-c', changingScript], { namespace: 'k8s.io' });
      expect({ round, err, out }).toEqual({ round, err: '', out: changedAnswer });
    }
    for (const { descriptor } of image.layers) expect(registry.front.bytes(descriptor.digest)).toBe(descriptor.size);
    expect(daemon.layerMounts()).toEqual([]);
    const { layers, deferred, unpacked } = await daemon.status();
    expect([layers, deferred]).toEqual([[], []]);
    expect(unpacked.map(({ layer }) => layer)).toEqual(digestsOf(image));
    for (const { reason } of unpacked) expect(reason).toMatch(/^by peel: .*has none for this image/);
  });

  it('is whole in containerd afterwards: it can be exported and pushed', async () => {
    const { containerd, registry, daemon } = world;
    const reference = registry.reference('plain');
    await settled();
    registry.front.forget();
    const archive = path.join(tempDir(), 'image.tar');
    await containerd.ctrIn('k8s.io', 'image', 'export', archive, reference);
    const names = await runOk('tar', ['-tf', archive]);
    const copy = registry.reference('copy');
    await containerd.ctrIn('k8s.io', 'image', 'tag', reference, copy);
    await containerd.ctrIn('k8s.io', 'image', 'push', '--plain-http', copy);
    const status = await containerd.ctrIn('k8s.io', 'image', 'check', '--snapshotter', 'peel', `name==${reference}`);
    expect(status).toMatch(/ complete /);
    const { layers } = await pullJson(copy);
    for (const layer of (await daemon.status()).unpacked) expect(names).toContain(layer.layer.slice(7));
    // In another namespace, without another byte of its layers.
    expect(layers.map(({ how, unpackedBy }) => `${how} by ${unpackedBy}`)).toEqual(
      layers.map(() => 'unpacked by peel'),
    );
    for (const layer of (await daemon.status()).unpacked) expect(registry.front.bytes(layer.layer)).toBe(0);
    expect(readdirSync(path.join(daemon.root, 'compressed/sha256'))).toEqual([]);
  });

  it('is read from containerd where that has its layers, by `peel pull`, which says who unpacked them', async () => {
    const { containerd, registry } = world;
    const image = await world.image('there', [[bytes('there', 3 << 20)]], unindexed);
    await containerd.ctr('content', 'fetch', '--plain-http', image.reference);
    registry.front.forget();
    const { layers } = await pullJson(image.reference);
    expect(layers).toMatchObject([{ how: 'present' }, { how: 'unpacked', unpackedBy: 'peel', fetched: 0 }]);
    expect(layerBytesSent(registry, image)).toBe(0);
    const elsewhere = ['pull', image.reference, '--address', containerd.socket, '--namespace', 'k8s.io'];
    expect(await world.daemon.ok(elsewhere)).toMatch(/; 1 unpacked by peel, 1 present, 0 B fetched\n/);
    expect((await containerd.run(image.reference, ['stat', '-c', '%s', '/there'])).out).toBe(`${3 << 20}\n`);
  });

  it('with a hard link into a lower layer is containerd’s from there on, through the mount', async () => {
    const { containerd, daemon } = world;
    const link = { name: 'again', flag: '1', link: 'data/file' };
    const image = await world.image(
      'linked',
      [[{ name: 'data/file', data: 'linked\n' }], [link], [{ name: 'top', data: 'top\n' }]],
      unindexed,
    );
    await containerd.cri.pull(image.reference);
    const { deferred } = await daemon.status();
    expect(deferred).toMatchObject([
      { layer: digestsOf(image)[2], reason: expect.stringMatching(/^by containerd: .*hard link/) },
    ]);
    const { out } = await containerd.run(image.reference, cat('/again /top'), { namespace: 'k8s.io' });
    expect(out).toBe('linked\ntop\n');
  });

  it('shares its jobs with another image and another namespace, and its layers are unpacked side by side', async () => {
    const { containerd, daemon, registry } = world;
    const shared = ['a', 'b', 'c'].map((name) => [bytes(name, 3 << 19)]);
    const one = await world.image('one', [...shared, [{ name: 'name', data: 'one' }]], unindexed);
    const two = await world.image('two', [...shared, [{ name: 'name', data: 'two' }]], unindexed);
    // What is in the archives is the same, and so are the layers.
    const common = digestsOf(one).slice(1, 4);
    expect(digestsOf(two).slice(1, 4)).toEqual(common);
    registry.front.forget();
    const held = holdBlobs(registry, common);
    const pulls = [containerd.cri.pull(one.reference), world.pull(two.reference, 'other')];
    for (const pull of pulls) pull.catch(() => {});
    await vi.waitFor(
      async () => {
        const { unpacking } = await report();
        const running = unpacking?.jobs.filter(({ state, layer }) => state === 'in_progress' && common.includes(layer));
        expect(running?.map(({ layer }) => layer).toSorted()).toEqual(common.toSorted());
        expect(unpacking?.jobs.filter(({ state }) => state === 'in_progress')).toHaveLength(3);
        expect(unpacking?.unpacks.held).toBe(3);
        expect(unpacking?.downloads.held).toBeGreaterThan(2);
      },
      { timeout: 10_000, interval: 200 },
    );
    // The layers of their own may be at work for a moment, also after the others were seen alone.
    await vi.waitFor(async () => {
      const text = await daemon.ok(['status']);
      expect(text).toMatch(/^Unpacking: downloads \d+ of 16 .*; unpacks 3 of 8 \(at most 4 of one image\)/m);
      expect(text).toMatch(new RegExp(`^ *\\d+ +\\S+ +${common[0]?.slice(0, 19)} +in progress +0 % `, 'm'));
      const metrics = await runOk('curl', ['-s', '--unix-socket', `${daemon.runDir}/control.sock`, 'http://d/metrics']);
      expect(metrics).toContain('peel_unpack_jobs{state="in_progress"} 3\n');
      expect(metrics).toContain('peel_unpack_leases{kind="unpacks",state="held"} 3\n');
    }, 20_000);
    held.release();
    await Promise.all(pulls);
    for (const layer of common) expect(registry.front.bytes(layer)).toBe(bytesOf(one, layer));
    expect((await containerd.run(one.reference, cat('/name'), { namespace: 'k8s.io' })).out).toBe('one');
    expect((await containerd.run(two.reference, cat('/name'), { namespace: 'other' })).out).toBe('two');
  });

  it('is continued where a killed daemon left it', async () => {
    const { containerd, daemon, registry } = world;
    const image = await world.image('resumed', [[bytes('large', 12 << 20)]], unindexed);
    const [, layer = ''] = digestsOf(image);
    // Of thirteen chunks; eight are asked for at once, so when six wait at least five are here.
    const held = holdBlobs(registry, [layer], 7);
    const killed = world.pull(image.reference).catch((error: unknown) => error);
    await vi.waitFor(() => expect(held.waiting).toBe(6), { timeout: 10_000 });
    expect(await daemon.stop('SIGKILL')).toBe('SIGKILL');
    held.release();
    await killed;
    const begun = registry.front.bytes(layer);
    expect(begun).toBeGreaterThanOrEqual(5 << 20);
    registry.front.forget();
    await daemon.start();
    await world.reconnected();
    const job = (await report()).unpacking?.jobs.find((each) => each.layer === layer);
    expect(job).toMatchObject({ state: 'cancelled', cause: expect.stringMatching(/process .* ended/) });
    await world.pull(image.reference);
    expect(registry.front.bytes(layer)).toBeLessThanOrEqual(bytesOf(image, layer) - (5 << 20));
    expect((await containerd.run(image.reference, ['stat', '-c', '%s', '/large'])).out).toBe(`${12 << 20}\n`);
  });

  it('is lazy for the next node, by the index that this one has made and pushed', async () => {
    const { containerd, registry } = world;
    const image = await world.image(
      'fleet',
      [[{ name: 'first', data: 'first' }, bytes('unread', 12 << 20)]],
      unindexed,
    );
    await containerd.cri.pull(image.reference);
    await settled();
    registry.front.forget();
    const other = new PeelNode();
    try {
      const dir = await other.mount(image.reference, 'auto', '--no-read-ahead');
      expect(await runOk('cat', [`${dir}/first`])).toBe('first');
      expect(registry.front.bytes(digestsOf(image)[1])).toBeLessThan(5 << 20);
      await other.umount(dir);
    } finally {
      await other.close();
    }
  });

  it('says once that a registry takes no index from it', async () => {
    const { containerd, daemon, registry } = world;
    const big = bytes('big', 11 << 20);
    const image = await world.image('kept', [[big]], unindexed);
    const again = await world.image('kept-too', [[big], [{ name: 'small', data: 'small' }]], unindexed);
    const stop = registry.front.interfere(
      ({ method }) => method === 'POST' || method === 'PUT',
      (_request, response) =>
        void response
          .writeHead(403, { 'content-type': 'application/json' })
          .end(JSON.stringify({ errors: [{ code: 'DENIED', message: 'pulls only' }] })),
    );
    const begun = daemon.log.length;
    for (const { reference } of [image, again]) {
      await containerd.cri.pull(reference);
      await settled();
    }
    stop();
    const said = daemon.log.slice(begun).match(/takes no index from this node \(said once\)/g);
    expect(said).toHaveLength(1);
    expect((await containerd.run(again.reference, cat('/small'), { namespace: 'k8s.io' })).out).toBe('small');
  });

  it('is unpacked with the limits that were read last', async () => {
    const { daemon } = world;
    world.configure(publishing, ['per_node = 3', 'per_image = 2', 'keep_compressed = false']);
    process.kill(daemon.pid, 'SIGHUP');
    await vi.waitFor(
      async () => expect((await report()).unpacking?.unpacks).toEqual({ limit: 3, perImage: 2, held: 0, waiting: 0 }),
      30_000,
    );
    expect((await report()).restartNeeded).toEqual([]);
    // What is wrong changes nothing.
    world.configure(publishing, ['per_node = 0']);
    process.kill(daemon.pid, 'SIGHUP');
    await vi.waitFor(async () => expect((await report()).warnings.join()).toMatch(/unpack\.per_node/), 30_000);
    expect((await report()).unpacking?.unpacks.limit).toBe(3);
    const { code, err } = await new PeelNode().peel(['daemon', '--config', daemon.configFile]);
    expect([code, err]).toEqual([2, expect.stringMatching(/unpack\.per_node/)]);
  });

  it('is unpacked in mode eager also when there is an index', async () => {
    const { containerd, daemon, registry } = world;
    const image = await world.image('indexed', [[...changedLower, bytes('eager', 10)], changedUpper]);
    world.configure(['[snapshotter]', 'mode = "eager"'], ['keep_compressed = false']);
    await daemon.stop();
    await daemon.start();
    await world.reconnected();
    registry.front.forget();
    await containerd.cri.pull(image.reference);
    expect(registry.front.seen('/referrers/')).toEqual([]);
    const { layers, unpacked } = await daemon.status();
    expect(layers).toEqual([]);
    expect(unpacked.filter(({ reason }) => reason.includes('snapshotter.mode is "eager"'))).toHaveLength(2);
    const { out } = await containerd.run(image.reference, ['sh', '-c', changingScript], { namespace: 'k8s.io' });
    expect(out).toBe(changedAnswer);
    await settled();
    expect(existsSync(path.join(daemon.root, 'compressed/sha256', digestsOf(image)[1]?.slice(7) ?? ''))).toBe(false);
    expect(await containerd.ctrIn('k8s.io', 'content', 'ls', '-q')).not.toContain(digestsOf(image)[1]);
  });

  it('leaves nothing when its containers and images are gone', async () => {
    const { containerd, daemon } = world;
    for (const namespace of ['default', 'k8s.io', 'other']) {
      // Of the pull that was the killed daemon's: containerd lets go of it after a day.
      const leases = (await containerd.ctrIn(namespace, 'leases', 'ls', '-q')).trim().split('\n');
      for (const lease of leases) if (lease !== '') await containerd.ctrIn(namespace, 'leases', 'rm', lease);
      const images = (await containerd.ctrIn(namespace, 'image', 'ls', '-q')).trim().split('\n');
      await containerd.ctrIn(namespace, 'image', 'rm', '--sync', ...images.filter((name) => name !== ''));
      expect(await containerd.snapshots(namespace)).toEqual([]);
    }
    await vi.waitFor(() => expect(readdirSync(path.join(daemon.root, 's'))).toEqual([]), { timeout: 10_000 });
    // What failed is kept for people and for the next who asks, until it expires.
    expect((await report()).unpacking?.jobs.map(({ state }) => state)).toContain('failed');
    world.configure([], ['expiry = "1ms"', 'collect_interval = "50ms"']);
    process.kill(daemon.pid, 'SIGHUP');
    await vi.waitFor(async () => expect((await report()).unpacking?.jobs).toEqual([]), { timeout: 10_000 });
    expect(readdirSync(path.join(daemon.root, 'unpack'))).toEqual([]);
  });
});

function bytesOf({ layers }: PushedImage, layer: string): number {
  return layers.find(({ descriptor }) => descriptor.digest === layer)?.descriptor.size ?? 0;
}
