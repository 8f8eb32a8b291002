import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ImageLab, labLayer } from '../support/image-lab.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { run, runOk } from '../support/run.ts';
import { tarOf } from '../support/tar-members.ts';

interface Mounted {
  readonly node: PeelNode;
  readonly dir: string;
  readonly pid: number;
}

async function mounted(transport: 'kernel' | 'native', ...flags: string[]): Promise<Mounted> {
  const lab = await ImageLab.start();
  const image = await lab.push('1', [labLayer(tarOf({ path: 'f', data: 'hello' }))]);
  const node = new PeelNode();
  onTestFinished(() => node.close());
  const dir = await node.mount(image.reference, transport, ...flags);
  const [row] = await node.json<{ pid: number }[]>(['mounts']);
  return { node, dir, pid: row?.pid ?? 0 };
}

async function ended(pid: number): Promise<void> {
  for (let i = 0; i < 500; i += 1) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await delay(20);
  }
  throw new Error(`process ${pid} still runs`);
}

const typesAt = (dir: string) =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.split(' ')[4] === dir)
    .map((line) => line.split(' - ')[1]?.split(' ')[0]);

describe.skipIf(!canMount)('the end of a mount', () => {
  it.each(['kernel', 'native'] as const)(
    'leaves alone what somebody else mounts there right after: %s',
    async (transport) => {
      const { dir, pid } = await mounted(transport);
      await runOk('sh', ['-c', 'umount "$0" && mount -t tmpfs peel-test "$0"', dir]);
      await ended(pid);
      expect(typesAt(dir)).toEqual(['tmpfs']);
    },
  );

  it.each(['kernel', 'native'] as const)(
    'comes after a lazy umount with the last user, who still reads: %s',
    async (transport) => {
      const { node, dir, pid } = await mounted(transport);
      const user = run('sh', ['-c', 'sleep 1; cat f'], { cwd: dir });
      await delay(200);
      await runOk('umount', ['-l', dir]);
      expect((await user).out).toBe('hello');
      await ended(pid);
      expect(await node.json(['mounts'])).toEqual([]);
    },
  );

  it.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('comes with %s to its process', async (signal) => {
    const { dir, pid } = await mounted('kernel', '--rw');
    process.kill(pid, signal);
    await ended(pid);
    expect(typesAt(dir)).toEqual([]);
  });

  it('is not taken for that of another file system', async () => {
    const { node, dir, pid } = await mounted('kernel', '--rw');
    process.kill(pid, 'SIGKILL');
    await ended(pid);
    await runOk('umount', ['-l', dir]);
    await runOk('mount', ['-t', 'tmpfs', 'peel-test', dir]);
    expect(await node.json(['mounts'])).toEqual([]);
    const refused = await node.peel(['umount', dir]);
    expect(refused).toMatchObject({ code: 1, err: expect.stringContaining('not by peel') });
    expect(typesAt(dir)).toEqual(['tmpfs']);
    expect((await runOk('find', [join(node.root, 'mounts'), '-mindepth', '1'])).trim()).toBe('');
  });

  it.each(['kernel', 'native'] as const)(
    'can be made where the state directory is not known: %s',
    async (transport) => {
      const { dir, pid } = await mounted(transport);
      process.kill(pid, 'SIGKILL');
      await ended(pid);
      const other = new PeelNode();
      onTestFinished(() => other.close());
      await other.umount(dir);
      expect(typesAt(dir)).toEqual([]);
    },
  );

  it('leaves nothing when the mount fails before it began', async () => {
    const { node, dir } = await mounted('native');
    const target = await node.newDir();
    mkdirSync(join(node.dir, 'kept'));
    const failed = await node.peel(['mount', 'oci:/nowhere', target, '--rw', '--upper', join(node.dir, 'kept')]);
    expect(failed.code).toBe(1);
    // The overlay of a mounted image cannot hold changes itself.
    await node.umount(dir);
    const over = await node.peel(['mount', 'oci:/nowhere', target, '--rw', '--upper', '/dev/null/x']);
    expect(over.code).toBe(1);
    expect((await runOk('find', [join(node.root, 'mounts'), '-mindepth', '1'])).trim()).toBe('');
  });
});
