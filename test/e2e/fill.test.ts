// The background fill, over a real registry, containerd and runc: what it brings, how fast, and that it ends.
import { randomBytes } from 'node:crypto';
import { readdirSync, readlinkSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { type PushedImage, layerBytesSent } from '../support/container-image.ts';
import { fetchedBytes, metricValue } from '../support/daemon-metrics.ts';
import { everything } from '../support/faults.ts';
import { holdBlobs } from '../support/held-blobs.ts';
import { sha256 } from '../support/image-lab.ts';
import { processesUsing } from '../support/leftovers.ts';
import { canMount, PeelNode } from '../support/peel-node.ts';
import { SnapshotterWorld } from '../support/snapshotter-world.ts';

const kib = 1024;
const wait = { timeout: 30_000, interval: 100 };

describe.skipIf(!canMount)('the background fill', () => {
  const data = Array.from({ length: 4 }, () => randomBytes(2048 * kib));
  let world: SnapshotterWorld;
  let images: PushedImage[];

  beforeAll(async () => {
    world = await SnapshotterWorld.start({ config: () => config() });
    images = [];
    for (const [n, bytes] of data.entries()) {
      const members = [
        { name: `data${n}`, data: bytes },
        { name: `small${n}`, data: `words ${n}` },
      ];
      images.push(await world.image(`fill-${n}`, [members]));
    }
  });
  beforeEach(() => {
    world.explainFailure();
    world.registry.front.forget();
  });
  afterAll(async () => expect(await world.close()).toEqual([]));

  const config = (bandwidth = '0B') => ['[fill]', `bandwidth = "${bandwidth}"`];

  async function reload(bandwidth: string): Promise<void> {
    const count = () => world.daemon.log.split('configuration was read again').length;
    const before = count();
    world.configure(config(bandwidth));
    process.kill(world.daemon.pid, 'SIGHUP');
    await expect.poll(count, wait).toBe(before + 1);
  }

  function image(n: number): { image: PushedImage; top: string; reference: string } {
    const found = images[n] as PushedImage;
    return { image: found, top: found.layers[1]?.descriptor.digest ?? '', reference: found.reference };
  }

  /** Of the daemon, into the cache of a layer. */
  const openFiles = (digest: string): string[] => {
    const dir = `/proc/${world.daemon.pid}/fd`;
    const target = (fd: string) => {
      try {
        return readlinkSync(path.join(dir, fd));
      } catch {
        return ''; // closed meanwhile
      }
    };
    return readdirSync(dir)
      .map(target)
      .filter((file) => file.includes(digest.replace('sha256:', '')));
  };

  const requests = (digest: string): number => world.registry.front.seen(digest).length;

  async function expectNoRequests(digest: string, ms = 800): Promise<void> {
    const before = requests(digest);
    await delay(ms);
    expect(requests(digest)).toBe(before);
  }

  it('makes the layers of a container complete, which then need no registry', async () => {
    const { reference, top } = image(0);
    await world.pull(reference);
    const container = await world.containerd.container(reference, ['sleep', '600']);
    onTestFinished(() => container.remove());
    const served = async () => (await world.daemon.status()).layers.map((layer) => layer.served);
    await expect.poll(served, wait).toEqual(['complete', 'complete']);
    // Nobody had read any of it.
    const background = await fetchedBytes(world.daemon, 'background');
    expect(background).toBeGreaterThan(2000 * kib);
    expect(await metricValue(world.daemon, 'peel_fill_layers')).toBe(0);
    expect(requests(top)).toBeGreaterThan(0);

    const stop = world.registry.front.interfere(everything, (_request, response) => response.destroy());
    onTestFinished(() => stop());
    world.registry.front.forget();
    const { out } = await world.containerd.run(reference, ['sha256sum', '/data0', '/small0']);
    expect(out).toBe(`${hex(data[0] ?? '')}  /data0\n${hex('words 0')}  /small0\n`);
    expect(world.registry.front.requests).toEqual([]);
  });

  it('keeps to its bandwidth, and ends with the mount that it is for', async () => {
    const { reference, top } = image(1);
    const dir = path.join(world.daemon.dir, 'filled');
    await mkdir(dir);
    await reload('256KiB');
    await world.daemon.ok(['mount', reference, dir, '--fill']);
    const sent = () => layerBytesSent(world.registry, images[1] as PushedImage);
    await expect.poll(sent, wait).toBeGreaterThan(0);
    const [from, start] = [performance.now(), sent()];
    await delay(2500);
    const seconds = (performance.now() - from) / 1000;
    // What was not used for a second may be used at once; a turn may end with a whole span.
    expect(sent() - start).toBeLessThan((seconds + 1) * 256 * kib + 256 * kib);
    expect(sent() - start).toBeGreaterThan(128 * kib);
    expect(await metricValue(world.daemon, 'peel_fill_layers')).toBeGreaterThan(0);

    await world.daemon.ok(['umount', dir]);
    await expectNoRequests(top);
    await expect.poll(() => openFiles(top), wait).toEqual([]);
    expect(await metricValue(world.daemon, 'peel_fill_layers')).toBe(0);
  });

  it('ends with the daemon, and goes on when that is started again', async () => {
    const { reference, top } = image(2);
    await reload('128KiB');
    await world.pull(reference);
    await expect.poll(() => requests(top), wait).toBeGreaterThan(0);
    const { pid } = world.daemon;
    expect(await world.daemon.stop()).toBe(0);
    expect(processesUsing(world.daemon.dir)).not.toContain(pid);
    expect((await readFile(world.daemon.configFile, 'utf8')).includes('128KiB')).toBe(true);
    await expectNoRequests(top);

    world.configure(config());
    await world.daemon.start();
    await world.reconnected();
    const served = async () =>
      (await world.daemon.status()).layers.filter(({ layer }) => layer === top).map((layer) => layer.served);
    await expect.poll(served, wait).toEqual(['complete']);
  });

  it('is only for mounts that ask for it, and their process ends while it goes on', async () => {
    const { reference, top, image: pushed } = image(3);
    const node = new PeelNode();
    onTestFinished(() => node.close());
    const lazy = await node.mount(reference);
    expect(await readFile(path.join(lazy, 'small3'), 'utf8')).toBe('words 3');
    await delay(500);
    await expectNoRequests(top);
    expect(layerBytesSent(world.registry, pushed)).toBeLessThan(1400 * kib);
    await node.umount(lazy);

    const held = holdBlobs(world.registry, [top]);
    onTestFinished(() => held.release());
    const filled = await node.mount(reference, 'auto', '--fill');
    await expect.poll(() => held.waiting, wait).toBeGreaterThan(0);
    await node.umount(filled);
    await expect.poll(() => processesUsing(node.dir), wait).toEqual([]);
    held.release();
    await expectNoRequests(top);

    const whole = await node.mount(reference, 'auto', '--fill');
    await expect.poll(() => layerBytesSent(world.registry, pushed), wait).toBeGreaterThan(2000 * kib);
    expect(sha256(await readFile(path.join(whole, 'data3')))).toBe(sha256(data[3] ?? Buffer.alloc(0)));
  });
});

const hex = (bytes: Buffer | string): string => sha256(Buffer.from(bytes)).slice('sha256:'.length);
