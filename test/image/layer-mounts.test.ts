// Layers as mounts: what outlives the process that serves them, what the next one makes of it, and what is cleared away.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { ImageLab, labLayer, sha256 } from '../support/image-lab.ts';
import type { LabImage } from '../support/image-lab.ts';
import { LayersProcess, wishesOf } from '../support/layers-process.ts';
import type { Wish } from '../support/layers-process.ts';
import { rounds } from '../support/fixtures.ts';
import { canMount } from '../support/peel-node.ts';
import { peel, run, runOk } from '../support/run.ts';
import { tarOf } from '../support/tar-members.ts';

const spanSize = 64 << 10;
const data = randomBytes(700_000);
const whole = randomBytes(100_001);

interface Place {
  readonly lab: ImageLab;
  readonly root: string;
  readonly image: LabImage;
}

/** A lazy layer, and one that is on the node as soon as it is served. */
async function place(): Promise<Place> {
  const lab = await ImageLab.start();
  const image = await lab.push('1', [
    labLayer(tarOf({ path: 'head', data: whole }, { path: 'tail', data }, { path: 'su', data: 'x', mode: 0o4755 })),
    labLayer(tarOf({ path: 'whole', data: whole }), 'gzip'),
  ]);
  await lab.pushIndex({ ...image, layers: image.layers.slice(0, 1) }, { spanSize });
  return { lab, root: join(lab.dir, 'root'), image };
}

const sumOf = async (path: string) => `sha256:${(await runOk('sha256sum', [path])).slice(0, 64)}`;
const mountLines = (dir: string) =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.split(' ')[4]?.startsWith(`${dir}/`));

describe.skipIf(!canMount)('mounted layers', () => {
  it.each(['kernel', 'native'] as const)(
    'come back without a registry when the daemon starts again: %s',
    async (transport) => {
      const { lab, root, image } = await place();
      const first = await LayersProcess.start(root, { transport });
      await first.pull(image);
      const [lazy, complete] = [await first.directory(1), await first.directory(2)];
      expect(await sumOf(join(lazy, 'head'))).toBe(sha256(whole));
      await first.stop();
      await lab.front.close();
      const second = await LayersProcess.start(root, { transport, readDeadlineMs: 500 });
      expect(await second.status()).toMatchObject([
        { serving: 'lazy', transport },
        { serving: 'complete', transport },
      ]);
      expect(await sumOf(join(lazy, 'head'))).toBe(sha256(whole));
      expect(await sumOf(join(complete, 'whole'))).toBe(sha256(whole));
      // What was not fetched cannot be had, and says so; what is there goes on.
      expect((await run('cat', [join(lazy, 'tail')])).err).toContain('Input/output error');
      expect(await sumOf(join(lazy, 'head'))).toBe(sha256(whole));
      expect(mountLines(root)).toHaveLength(2);
    },
  );

  it('that are complete are read when their process was killed, and are kept by the next one', async () => {
    const { root, image } = await place();
    const first = await LayersProcess.start(root);
    await first.pull(image);
    const [lazy, complete] = [await first.directory(1), await first.directory(2)];
    const [, before] = mountLines(root);
    await first.kill();
    expect(await sumOf(join(complete, 'whole'))).toBe(sha256(whole));
    expect((await run('cat', [join(lazy, 'tail')])).code).toBe(1);
    const second = await LayersProcess.start(root);
    // The same mount, which a running container may be made of.
    expect(mountLines(root)).toHaveLength(2);
    expect(mountLines(root)).toContain(before);
    expect(await sumOf(join(lazy, 'tail'))).toBe(sha256(data));
    // Fetched in full meanwhile: from now on it needs no process either.
    expect(await sumOf(join(lazy, 'head'))).toBe(sha256(whole));
    await expect.poll(async () => (await second.status())[0]?.serving, { timeout: 10_000 }).toBe('complete');
    await second.stop();
    const third = await LayersProcess.start(root);
    expect((await third.status()).map(({ direct }) => direct)).toEqual([true, true]);
    await third.kill();
    expect(await sumOf(join(lazy, 'tail'))).toBe(sha256(data));
  });

  it('make a root filesystem: set-uid counts, and names of lower layers show', async () => {
    const { lab, root, image } = await place();
    const layers = await LayersProcess.start(root);
    await layers.pull(image);
    const merged = join(lab.dir, 'merged');
    mkdirSync(merged);
    const lower = `${await layers.directory(2)}:${await layers.directory(1)}`;
    await runOk('mount', ['-t', 'overlay', 'overlay', '-o', `ro,lowerdir=${lower}`, merged]);
    try {
      expect(await runOk('ls', [merged])).toBe('head\nsu\ntail\nwhole\n');
      expect(await sumOf(join(merged, 'whole'))).toBe(sha256(whole));
      expect(mountLines(root).every((line) => !line.includes('nosuid'))).toBe(true);
    } finally {
      await runOk('umount', [merged]);
    }
  });

  it('of which one cannot be restored leave no empty directory in its place, and the others come', async () => {
    const { root, image } = await place();
    const first = await LayersProcess.start(root);
    await first.pull(image);
    const [lazy, complete] = [await first.directory(1), await first.directory(2)];
    await first.stop();
    const blobs = join(root, 'blobs', 'sha256');
    rmSync(join(blobs, image.layers[0]?.descriptor.digest.slice(7) ?? ''), { recursive: true });
    const second = await LayersProcess.start(root);
    expect(await second.status()).toMatchObject([
      { serving: 'none', lastError: expect.stringMatching(/^not restored: its index is gone/) },
      { serving: 'complete' },
    ]);
    expect(existsSync(lazy)).toBe(false);
    expect(await sumOf(join(complete, 'whole'))).toBe(sha256(whole));
    // A pull repairs it, in the slot that the snapshot shows.
    expect(await second.pull(image)).toMatchObject([{ kind: 'served', slot: 1 }, { slot: 2 }]);
    expect(await sumOf(join(lazy, 'tail'))).toBe(sha256(data));
  });

  it('are not for peel umount', async () => {
    const { root, image } = await place();
    const layers = await LayersProcess.start(root);
    await layers.pull(image);
    const dir = await layers.directory(1);
    const { code, err } = await peel(['umount', dir], { env: { PEEL_ROOT: root, PEEL_RUN_DIR: `${root}-run` } });
    expect([code, err]).toEqual([1, expect.stringContaining("a layer of containerd's snapshots")]);
    expect(await sumOf(join(dir, 'head'))).toBe(sha256(whole));
  });

  it('are served over FUSE where the kernel was found unfit', async () => {
    const { root, image } = await place();
    mkdirSync(join(root, 'trees'), { recursive: true });
    mkdirSync(`${root}-run`);
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    const key = `${boot} ${release()} ${statSync(join(root, 'trees')).dev}`;
    writeFileSync(`${root}-run/erofs-probe.json`, JSON.stringify({ key, refusal: 'it answers zeros' }));
    const layers = await LayersProcess.start(root);
    expect(await layers.pull(image)).toMatchObject([{ kind: 'served' }, { kind: 'served' }]);
    expect((await layers.status()).map(({ transport }) => transport)).toEqual(['native', 'native']);
    expect(await sumOf(join(await layers.directory(1), 'tail'))).toBe(sha256(data));
    await layers.stop();
    const forced = await LayersProcess.start(root, { transport: 'kernel' });
    expect(await forced.status()).toMatchObject([
      { serving: 'none', lastError: expect.stringContaining('it answers zeros') },
      { serving: 'none' },
    ]);
  });

  it('stay as long as a snapshot shows them, also when the process that handed them out is gone', async () => {
    const { root, image } = await place();
    const before = await LayersProcess.start(root);
    await before.pull(image);
    await before.kill();
    const layers = await LayersProcess.start(root);
    await layers.call('collect');
    expect(await layers.status()).toHaveLength(2);
    expect(mountLines(root)).toHaveLength(2);
    expect(await sumOf(join(await layers.directory(1), 'tail'))).toBe(sha256(data));
  });

  it.each(['kernel', 'native'] as const)(
    'go with their trees and bytes once nothing shows them: %s',
    async (transport) => {
      const { lab, root, image } = await place();
      const layers = await LayersProcess.start(root, { transport });
      await layers.pull(image);
      await sumOf(join(await layers.directory(1), 'tail'));
      const left = () => ({
        mounts: mountLines(root).length,
        places: readdirSync(join(root, 'l')).length,
        blobs: readdirSync(join(root, 'blobs', 'sha256')).length,
      });
      await layers.call('collect');
      expect(left()).toEqual({ mounts: 2, places: 2, blobs: 2 });
      await layers.sql('DELETE FROM snapshots WHERE slot = 1');
      await layers.call('released', [1]);
      await layers.call('collect');
      expect(left()).toEqual({ mounts: 1, places: 1, blobs: 1 });
      await layers.sql('DELETE FROM snapshots');
      // Handed out and not yet shown: somebody is about to.
      await layers.call('collect');
      expect(left()).toEqual({ mounts: 1, places: 1, blobs: 1 });
      await layers.call('released', [2]);
      await layers.call('collect');
      expect(left()).toEqual({ mounts: 0, places: 0, blobs: 0 });
      expect(await layers.status()).toEqual([]);
      // A slot is never used again.
      expect(await layers.pull(image)).toMatchObject([{ slot: 3 }, { slot: 4 }]);
      expect(await sumOf(join(await layers.directory(3), 'tail'))).toBe(sha256(data));
      expect(lab.front.requests.length).toBeGreaterThan(0);
    },
  );

  it('keep their bytes when the cache is cleared while their process is gone', async () => {
    const { lab, root, image } = await place();
    const first = await LayersProcess.start(root);
    await first.pull(image);
    await first.kill();
    const node = await lab.node({ root });
    const [lazy, complete] = image.layers.map(({ descriptor }) => descriptor.digest) as [Digest, Digest];
    expect(await node.pruneCache(0)).toMatchObject({ removed: [], busy: [lazy, complete] });
    expect(await node.removeCached('all')).toMatchObject({ removed: [], busy: [lazy, complete] });
    await expect(node.removeCached([complete])).rejects.toThrow(/in use and not removed: .*snapshots of containerd/);
    await lab.front.close();
    const second = await LayersProcess.start(root);
    expect(await second.status()).toMatchObject([{ serving: 'lazy' }, { serving: 'complete' }]);
    await second.sql('DELETE FROM snapshots');
    await second.stop();
    expect((await node.removeCached('all')).removed).toHaveLength(2);
  });

  it('are cleared away later when a tree cannot be deleted now', async () => {
    const { root, image } = await place();
    const layers = await LayersProcess.start(root);
    const outcome = await layers.provide(wishesOf(image)[0] as Wish);
    await layers.call('released', [(outcome as { readonly slot: number }).slot]);
    const trees = join(root, 'trees', 'sha256');
    const all = () => readdirSync(trees).filter((name) => name.endsWith('.erofs'));
    await expect.poll(all).toHaveLength(2);
    // A file that cannot be unlinked.
    for (const name of all()) await runOk('chattr', ['+i', join(trees, name)]);
    try {
      await layers.call('collect');
      expect(await layers.status()).toMatchObject([{ slot: 1 }]);
    } finally {
      for (const name of all()) await runOk('chattr', ['-i', join(trees, name)]);
    }
    await layers.call('collect');
    expect(await layers.status()).toEqual([]);
    expect(all()).toHaveLength(1);
  });

  it('are there when they are asked for while they are cleared away', async () => {
    const { root, image } = await place();
    const layers = await LayersProcess.start(root);
    const [wish] = wishesOf(image) as [Wish];
    for (let round = 0; round < rounds(30); round += 1) {
      const cleared = layers.call('collect');
      // As long as clearing away takes, in steps.
      await delay(round % 10);
      const outcome = await layers.provide(wish);
      await cleared;
      expect(outcome).toEqual(expect.objectContaining({ kind: 'served' }));
      const { slot } = outcome as { readonly slot: number };
      expect(await runOk('stat', ['-c', '%s', join(await layers.directory(slot), 'tail')])).toBe(`${data.length}\n`);
      await layers.call('released', [slot]);
    }
  });

  it('that a process before left where no snapshot shows anything are cleared away', async () => {
    const { root, image } = await place();
    const first = await LayersProcess.start(root);
    await first.pull(image);
    await first.sql('DELETE FROM snapshots');
    await first.kill();
    expect(mountLines(root)).toHaveLength(2);
    const second = await LayersProcess.start(root);
    expect(mountLines(root)).toEqual([]);
    expect(readdirSync(join(root, 'l'))).toEqual([]);
    await second.call('collect');
    expect(await second.status()).toEqual([]);
    expect(readdirSync(join(root, 'blobs', 'sha256'))).toEqual([]);
  });
});
