// An ordinary user mounts through fusermount3. /dev/fuse is opened to that user as distributions do it, but inside a private
// mount namespace, so that the machine stays as it was.
import { chmod, chown, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { makeFixture } from '../support/fixtures.ts';
import { treeDifference, listTree } from '../support/list-tree.ts';
import { PeelNode, canMount } from '../support/peel-node.ts';
import { unpackWithUmoci } from '../support/reference-tree.ts';
import { peelMain, run, runOk } from '../support/run.ts';
import { TestRegistry, layersOf } from '../support/test-registry.ts';

const user = 'peel-test';
const checkout = new URL('../..', import.meta.url).pathname;
const listProgram = new URL('../support/list-tree.py', import.meta.url).pathname;

describe.skipIf(!canMount)('an ordinary user', () => {
  let registry: TestRegistry;
  let node: PeelNode;
  let ids: { uid: number; gid: number };
  let expected: string[];

  beforeAll(async () => {
    registry = await TestRegistry.start();
    const tars = (await makeFixture('zoo', registry.work('zoo'))).slice(0, 3);
    await registry.push('zoo', layersOf(tars, 'gzip'));
    expected = await listTree(await unpackWithUmoci(registry.work('reference'), tars));
    if ((await run('id', [user])).code !== 0) {
      await runOk('useradd', ['--system', '--no-create-home', '--shell', '/usr/sbin/nologin', '--user-group', user]);
    }
    ids = { uid: Number(await runOk('id', ['-u', user])), gid: Number(await runOk('id', ['-g', user])) };
  });
  afterAll(() => registry.close());
  beforeEach(async () => {
    node = new PeelNode();
    await chmod(node.dir, 0o755);
  });
  afterEach(() => node.close());

  /** Runs a shell script as the user; `$PEEL` is the command line, the current directory belongs to the user. */
  async function asUser(script: string, deviceMode = '666'): Promise<{ code: number; out: string; err: string }> {
    const home = await node.newDir('home');
    await chown(home, ids.uid, ids.gid);
    await writeFile(join(node.dir, 'script'), script, { mode: 0o644 });
    const app = await node.newDir('app');
    // A bind mount, so that the checkout may lie where the user cannot go.
    const enter = [
      `mount --bind ${checkout} ${app}`,
      `mknod -m ${deviceMode} ${node.dir}/fuse c 10 229`,
      `mount --bind ${node.dir}/fuse /dev/fuse`,
      `cd ${home}`,
      `exec setpriv --reuid ${ids.uid} --regid ${ids.gid} --clear-groups sh -eu ${node.dir}/script`,
    ].join(' && ');
    const env = {
      HOME: home,
      APP: app,
      PEEL: `${process.execPath} ${join(app, peelMain.slice(checkout.length))}`,
      PEEL_ROOT: join(home, 'root'),
      PEEL_RUN_DIR: join(home, 'run'),
    };
    return run('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', enter], { env });
  }

  it('mounts, reads what its own permissions allow, and unmounts', async () => {
    const list = join('$APP', listProgram.slice(checkout.length));
    const result = await asUser(`
      mkdir mnt
      $PEEL mount ${registry.reference('zoo')} mnt >&2
      grep -q " $PWD/mnt .* - fuse" /proc/self/mountinfo || { cat /proc/self/mountinfo; exit 7; }
      python3 ${list} mnt --no-xattrs --no-hash
      echo "$(cat mnt/bin/one)" >&2
      if cat mnt/bin/block; then exit 8; fi
      $PEEL umount mnt
      if grep "$PWD/mnt" /proc/self/mountinfo; then exit 9; fi
    `);
    expect(result.code, result.err).toBe(0);
    expect(result.err).toMatch(/^1$/m);
    expect(result.err).toContain('Permission denied');
    const lines = result.out.trimEnd().split('\n');
    const wanted = expected.map((line) => [...line.split('\t').slice(0, -2), '-', '-'].join('\t'));
    expect(treeDifference(lines, wanted)).toBe('');
  });

  it('is told what is wrong when /dev/fuse cannot be opened', async () => {
    const result = await asUser(`mkdir mnt; $PEEL mount ${registry.reference('zoo')} mnt`, '600');
    expect(result.code).toBe(1);
    expect(result.err).toMatch(/\/dev\/fuse/);
  });
});
