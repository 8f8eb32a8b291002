// What is on disk for a snapshot: made, measured, removed.
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { silentLog } from '../../src/observe/log.ts';
import { SnapshotDirectories } from '../../src/snapshotter/directories.ts';
import { Snapshotter } from '../../src/snapshotter/snapshotter.ts';
import { run, runOk } from '../support/run.ts';
import { snapshotsWorld } from '../support/snapshots-world.ts';
import { tempDir } from '../support/tmp.ts';

const ref = 'containerd.io/snapshot.ref';
const chain = `sha256:${'c'.repeat(64)}`;

const ofDirectory = (dir: string) => {
  const { mode, uid, gid } = statSync(dir);
  return { mode: mode & 0o7777, uid, gid };
};

const upperOf = (options: readonly string[]) =>
  options.find((option) => option.startsWith('upperdir='))?.slice('upperdir='.length) ?? '';

/** What `du` says, the directory included. */
async function du(dir: string): Promise<{ size: number; inodes: number }> {
  const [size, inodes] = await Promise.all([runOk('du', ['-s', '-B512', dir]), runOk('du', ['-s', '--inodes', dir])]);
  return { size: Number.parseInt(size, 10) * 512, inodes: Number.parseInt(inodes, 10) };
}

describe('the directories of snapshots', () => {
  it('have the attributes of the root of what is below', async () => {
    const { client, layers } = await snapshotsWorld();
    const [base] = await client.prepare('base-active');
    expect(ofDirectory(base?.source ?? '')).toEqual({ mode: 0o755, uid: 0, gid: 0 });
    chownSync(base?.source ?? '', 11, 12);
    chmodSync(base?.source ?? '', 0o1750);
    await client.commit('base', 'base-active');
    const [above] = await client.prepare('above-active', 'base');
    const upper = upperOf(above?.options ?? []);
    expect(ofDirectory(upper)).toEqual({ mode: 0o1750, uid: 11, gid: 12 });
    expect(ofDirectory(path.join(upper, '../work')).mode).toBe(0o711);

    // A layer of ours that says nothing about its root leaves it to the one below.
    const { slot } = layers.offer(chain);
    await client.commit('above', 'above-active');
    await expect(client.prepare('x', 'above', { [ref]: chain })).rejects.toMatchObject({ code: status.ALREADY_EXISTS });
    const [name = ''] = await client.names(`labels."${ref}"`);
    const [first] = await client.prepare('first', name);
    expect(ofDirectory(upperOf(first?.options ?? []))).toEqual({ mode: 0o1750, uid: 11, gid: 12 });
    layers.roots.set(slot, { mode: 0o2711, uid: 5, gid: 6 });
    const [second] = await client.prepare('second', name);
    expect(ofDirectory(upperOf(second?.options ?? []))).toEqual({ mode: 0o2711, uid: 5, gid: 6 });
  });

  it('are nobody else’s, and short of name', async () => {
    const { client, root } = await snapshotsWorld();
    const [mount] = await client.prepare('a');
    expect(mount?.source).toBe(`${root}/s/1/fs`);
    expect(ofDirectory(`${root}/s`).mode).toBe(0o700);
    expect(ofDirectory(`${root}/s/1`).mode).toBe(0o700);
  });

  it('are measured: an active one each time, a committed one once', async () => {
    const { client, root } = await snapshotsWorld();
    await client.prepare('a');
    const dir = `${root}/s/1/fs`;
    expect(await client.usage('a')).toEqual(await du(dir));
    mkdirSync(`${dir}/many/deep/er`, { recursive: true });
    for (let at = 0; at < 400; at += 1) writeFileSync(`${dir}/many/${at}`, 'x'.repeat(at * 50));
    linkSync(`${dir}/many/399`, `${dir}/many/deep/link`);
    symlinkSync('/', `${dir}/many/root`);
    await runOk('sh', ['-c', `printf x > "$(printf '${dir}/many/\\377\\376')"; truncate -s 1G ${dir}/sparse`]);
    const full = await du(dir);
    expect(await client.usage('a')).toEqual(full);
    expect(full.inodes).toBe(407);
    await client.commit('c', 'a');
    expect(await Promise.all([client.usage('c'), client.usage('c'), client.usage('c')])).toEqual([full, full, full]);
    writeFileSync(`${dir}/more`, 'more');
    expect(await client.usage('c')).toEqual(full);
    await client.view('v', 'c');
    expect(await client.usage('v')).toEqual({ size: 0, inodes: 0 });
  });

  it('are not measured beyond their own file system', async () => {
    const { client, root } = await snapshotsWorld();
    await client.prepare('a');
    const point = `${root}/s/1/fs/mnt`;
    mkdirSync(point);
    writeFileSync(`${root}/s/1/fs/beside`, '');
    const before = await client.usage('a');
    await runOk('mount', ['-t', 'tmpfs', 'tmpfs', point]);
    try {
      writeFileSync(`${point}/file`, 'x'.repeat(100_000));
      expect((await client.usage('a')).inodes).toBe(before.inodes - 1);
      // Nor is anything removed while it is in use.
      await client.remove('a');
      await client.cleanup();
      expect([readdirSync(point), readdirSync(`${root}/s/1/fs`)]).toEqual([['file'], ['beside', 'mnt']]);
    } finally {
      await run('umount', ['-l', point]);
    }
    await client.cleanup();
    expect(existsSync(point)).toBe(false);
  });

  it('go with a cleanup, as does what a crash left', async () => {
    const { client, root, layers } = await snapshotsWorld();
    await client.prepare('stays');
    await client.prepare('goes');
    writeFileSync(`${root}/s/2/fs/file`, 'x');
    await client.remove('goes');
    // Remove is cheap: nothing is touched yet.
    expect(existsSync(`${root}/s/2/fs/file`)).toBe(true);
    for (const name of ['new-left', 'old-left', 'zz', '01', 'A'])
      mkdirSync(`${root}/s/${name}/fs`, { recursive: true });
    await client.cleanup();
    expect(readdirSync(`${root}/s`)).toEqual(['1']);
    expect(layers.collected).toBe(1);
  });

  it('are safe from a cleanup while they are made', async () => {
    const root = tempDir('peel-snap-');
    const directories = new SnapshotDirectories(root);
    const fresh = await directories.make({ mode: 0o755, uid: 0, gid: 0 }, { work: true });
    const clean = (...ids: number[]) =>
      directories.clean(() => new Set(ids), { log: silentLog(), signal: new AbortController().signal });
    await clean();
    directories.adopt(fresh, 77);
    await directories.discard(fresh);
    await clean(77);
    expect(readdirSync(directories.of(77).work)).toEqual([]);
    await clean();
    expect(readdirSync(`${root}/s`)).toEqual([]);
  });

  it('replace one of the same number that a killed process left', async () => {
    const { client, root } = await snapshotsWorld();
    mkdirSync(`${root}/s/1/fs/old`, { recursive: true });
    const [mount] = await client.prepare('a');
    expect(readdirSync(mount?.source ?? '')).toEqual([]);
    await client.cleanup();
    expect(readdirSync(`${root}/s`)).toEqual(['1']);
  });

  it.each([':', ',', '\\'])('are refused where overlayfs could not be told of them (%s)', async (letter) => {
    const { state, layers } = await snapshotsWorld();
    const root = `${tempDir()}/a${letter}b`;
    const make = () =>
      new Snapshotter({
        root,
        table: state.snapshots,
        layers,
        userXattr: false,
        prepareTimeoutMs: 1,
        boot: 'this boot',
        syncFilesystem: async () => {},
        log: silentLog(),
      });
    expect(make).toThrow(/overlayfs splits/);
  });
});
