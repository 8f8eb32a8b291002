// A daemon that is told to stop while it is busy with something else, or is killed there: it ends soon, and nothing is lost.
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { remakeMount } from '../../src/image/remake-mount.ts';
import { mountSystem } from '../../src/image/mount-system.ts';
import { listMounts } from '../../src/image/umount.ts';
import { silentLog } from '../../src/observe/log.ts';
import { openState } from '../../src/state/state.ts';
import { Deferred } from '../../src/util/deferred.ts';
import { DaemonProcess } from '../support/daemon-process.ts';
import { makeFixture } from '../support/fixtures.ts';
import { mountsBelow } from '../support/leftovers.ts';
import { canMount, PeelNode } from '../support/peel-node.ts';
import { peelMain, runOk, stop } from '../support/run.ts';
import { layersOf, TestRegistry } from '../support/test-registry.ts';

let registry: TestRegistry;
beforeAll(async () => {
  registry = await TestRegistry.start();
  await registry.push('app', layersOf(await makeFixture('zoo', registry.work('zoo'))));
});
afterAll(() => registry.close());

/** A node with a mount that a daemon made and left. */
async function nodeWithMount(): Promise<{ readonly node: PeelNode; readonly dir: string }> {
  const node = new PeelNode();
  onTestFinished(() => node.close());
  const first = await DaemonProcess.start(node);
  const dir = await first.mount(registry.reference('app'), { writable: true });
  await runOk('sh', ['-c', 'echo new >"$0/made"', dir]);
  await first.end();
  return { node, dir };
}

/** The same, and the image has to be asked for: `asked` settles with the first request, and none is answered until `answer`. */
async function nodeThatMustAsk() {
  const made = await nodeWithMount();
  rmSync(join(made.node.root, 'content'), { recursive: true });
  const silence = () => {
    const asked = new Deferred<void>();
    const answer = registry.front.interfere(
      () => true,
      () => asked.resolve(),
    );
    onTestFinished(answer);
    return { asked: asked.promise, answer };
  };
  return { ...made, silence };
}

describe.skipIf(!canMount)('a daemon that is told to stop', () => {
  it('while it starts, ends in order, and the next one takes over', async () => {
    const { node, dir, silence } = await nodeThatMustAsk();
    const { asked, answer } = silence();
    const child = spawn(process.execPath, [peelMain, 'daemon'], { env: { ...process.env, ...node.env } });
    onTestFinished(() => stop(child));
    let log = '';
    child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
    await asked;
    child.kill('SIGTERM');
    expect([await once(child, 'close'), log]).toEqual([[0, null], expect.stringContaining('while it started')]);
    expect(log).not.toMatch(/daemon serves|cannot be made again/);
    answer();
    const second = await DaemonProcess.start(node);
    expect((await second.status()).mounts).toMatchObject([{ dir, state: 'serving' }]);
    expect(await runOk('cat', [join(dir, 'made')])).toBe('new\n');
  });

  it('while it reads its configuration again, does not say that it is ready, and makes no more mounts', async () => {
    const { node, dir, silence } = await nodeThatMustAsk();
    const refuse = registry.front.interfere(
      () => true,
      (request) => void request.socket.destroy(),
    );
    const daemon = await DaemonProcess.start(node);
    expect((await daemon.status()).mounts).toMatchObject([{ dir, error: expect.anything() }]);
    refuse();
    const { asked, answer } = silence();
    process.kill(daemon.pid, 'SIGHUP');
    await asked;
    expect(await daemon.end()).toBe(0);
    expect(daemon.log).not.toMatch(/was read again|did not stop in order|unexpected/);
    answer();
    const second = await DaemonProcess.start(node);
    expect((await second.status()).mounts).toMatchObject([{ dir, state: 'serving' }]);
  });
});

describe.skipIf(!canMount)('a daemon that is killed while it makes a mount again', () => {
  it('loses neither the mount nor its changes', async () => {
    const { node, dir } = await nodeWithMount();
    const state = openState(node.root);
    const [row] = state.mounts.list();
    if (row === undefined) throw new Error('no row');
    const image = { close: () => Promise.resolve() } as never;
    const deps = { mounts: state.mounts, system: mountSystem(0), root: node.root, uid: 0, log: silentLog() };
    // The old mount is taken away, and nothing comes in its place.
    await expect(
      remakeMount({ ...deps, transports: [], openImage: () => Promise.resolve(image) }, row),
    ).rejects.toThrow();
    expect(mountsBelow(dir)).toEqual([]);
    expect(await listMounts(deps)).toMatchObject([{ dir, state: 'waiting' }]);
    state.close();
    const second = await DaemonProcess.start(node);
    expect((await second.status()).mounts).toMatchObject([{ dir, state: 'serving' }]);
    expect(await runOk('cat', [join(dir, 'made')])).toBe('new\n');
  });
});
