// What `peel mount` leaves and says as a process; that the tree is right is shown elsewhere.
import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { hashSync } from 'bcryptjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startDockerRegistry } from '../support/docker-registry.ts';
import { makeFixture } from '../support/fixtures.ts';
import { buildImage, writeLayout } from '../support/image-builder.ts';
import { mountsBelow, processesUsing } from '../support/leftovers.ts';
import { canMount, PeelNode } from '../support/peel-node.ts';
import { peelMain, runOk, stop } from '../support/run.ts';

const node = new PeelNode();
const image = `oci:${node.dir}/layout:all`;

beforeAll(async () => {
  const tars = await makeFixture('zoo', path.join(node.dir, 'tars'));
  const sources = tars.map((tar) => ({ tar, compression: 'gzip' as const }));
  await writeLayout(path.join(node.dir, 'layout'), 'all', await buildImage(path.join(node.dir, 'blobs'), sources));
});
afterAll(() => node.close());

describe.skipIf(!canMount)('peel mount', () => {
  it('returns when the directory serves, and leaves one process that ends with the mount', async () => {
    const dir = await node.newDir();
    expect(await node.ok(['mount', image, dir])).toMatch(new RegExp(`^mounted on ${dir} \\((kernel|native)\\)\n$`));
    expect(await runOk('cat', [path.join(dir, 'bin/one')])).toBe('1');
    expect(processesUsing(node.dir)).toHaveLength(1);
    expect(await node.json(['mounts'])).toMatchObject([{ dir, state: 'serving', pid: processesUsing(node.dir)[0] }]);
    expect(await node.ok(['mounts'])).toMatch(new RegExp(`^${dir} .* ro .* served by \\d+$`, 'm'));
    await node.umount(dir);
    expect([mountsBelow(node.dir), processesUsing(node.dir), await node.json(['mounts'])]).toEqual([[], [], []]);
    expect(readdirSync(path.join(node.dir, 'run', 'logs'))).toEqual([]);
  });

  it('keeps the password of --user from everybody who can see its process', async () => {
    const registry = await startDockerRegistry({ htpasswd: `ann:${hashSync('se:cret', 4)}\n` });
    try {
      const dir = await node.newDir();
      const locked = `${registry.host}/app:v1`;
      await node.ok(['copy', image, locked, '--dest-user', 'ann', '--password-stdin'], { input: 'se:cret\n' });
      expect(await node.peel(['mount', locked, dir])).toMatchObject({ code: 1 });
      await node.ok(['mount', locked, dir, '--user', 'ann:se:cret']);
      expect(await runOk('cat', [path.join(dir, 'bin/one')])).toBe('1');
      const [pid] = processesUsing(node.dir);
      for (const file of ['cmdline', 'environ'])
        expect(readFileSync(`/proc/${pid}/${file}`, 'utf8')).not.toContain('se:cret');
      expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toContain('--password-stdin');
      await node.umount(dir);
    } finally {
      await registry.close();
    }
  });

  it('answers in JSON', async () => {
    const dir = await node.newDir();
    const mounted = await node.json<{ why: string }>(['mount', image, dir, '--transport', 'native']);
    expect(mounted).toMatchObject({ dir, transport: 'native', writable: false, warnings: [] });
    expect(await node.json(['umount', dir])).toMatchObject({ dir });
  });

  it('with --foreground serves until SIGINT, then unmounts and ends', async () => {
    const dir = await node.newDir();
    const child = spawn(process.execPath, [peelMain, 'mount', '--foreground', image, dir], {
      env: { ...process.env, ...node.env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      const [line] = (await child.stdout.take(1).toArray()) as [Buffer];
      expect(line.toString()).toContain(`mounted on ${dir}`);
      expect(await runOk('cat', [path.join(dir, 'bin/one')])).toBe('1');
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGINT');
      expect(await ended).toBe(0);
    } finally {
      await stop(child);
    }
    expect(mountsBelow(node.dir)).toEqual([]);
  });

  it('clears the mount of a killed process, and mounts there again', async () => {
    const dir = await node.mount(image);
    for (const pid of processesUsing(node.dir)) process.kill(pid, 'SIGKILL');
    while (processesUsing(node.dir).length > 0) await delay(10);
    // Without a command line it may still be ending.
    const listed = async () => await node.ok(['mounts']);
    await expect.poll(listed, { timeout: 10_000 }).toContain('dead: peel umount clears it');
    await node.umount(dir);
    expect(mountsBelow(node.dir)).toEqual([]);
    await node.ok(['mount', image, dir]);
    await node.umount(dir);
  });

  it.each<[string, (dir: string) => string[], number, RegExp]>([
    ['an image that is not there', (dir) => ['mount', `oci:${node.dir}/layout:other`, dir], 1, /other/],
    ['a directory that is not there', (dir) => ['mount', image, `${dir}/none`], 1, /none does not exist/],
    ['a directory that is not empty', () => ['mount', image, `${node.dir}/tars`], 1, /is not empty/],
    ['a file', () => ['mount', image, `${node.dir}/tars/00-ustar.tar`], 1, /not a directory/],
    ['a missing index that is required', (dir) => ['mount', image, dir, '--index', 'require'], 1, /index/],
    ['an unknown platform', (dir) => ['mount', image, dir, '--platform', 'linux/none/v1/v2'], 2, /not a platform/],
    ['unmounting what is not mounted', (dir) => ['umount', dir], 1, /is not mounted/],
  ])('refuses %s and leaves nothing', async (_what, args, code, reason) => {
    const dir = await node.newDir();
    const result = await node.peel(args(dir));
    expect([result.code, result.out]).toEqual([code, '']);
    expect(result.err).toMatch(/^peel: [^\n]+\n$/);
    expect(result.err).toMatch(reason);
    expect([mountsBelow(node.dir), processesUsing(node.dir)]).toEqual([[], []]);
    expect(readdirSync(path.join(node.dir, 'run', 'logs'))).toEqual([]);
  });
});
