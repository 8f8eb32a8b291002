// What people mount while a daemon runs: the daemon serves it, leaves it when it ends, and makes it again when it starts.
import type { ChildProcess } from 'node:child_process';
import { existsSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { StatusReport } from '../../src/daemon/status-report.ts';
import { DaemonProcess } from '../support/daemon-process.ts';
import { makeFixture } from '../support/fixtures.ts';
import { fileSystemAt, mountsBelow, processesUsing } from '../support/leftovers.ts';
import { canMount, PeelNode } from '../support/peel-node.ts';
import { runOk } from '../support/run.ts';
import { layersOf, TestRegistry } from '../support/test-registry.ts';

let registry: TestRegistry;
let tars: string[];
beforeAll(async () => {
  registry = await TestRegistry.start();
  tars = await makeFixture('zoo', registry.work('zoo'));
  await registry.push('zoo', layersOf(tars));
});
afterAll(() => registry.close());

function newNode(): PeelNode {
  const node = new PeelNode();
  onTestFinished(() => node.close());
  return node;
}

const mountsOf = async (node: PeelNode) => await node.json<StatusReport['mounts']>(['mounts']);
const read = async (dir: string) => await runOk('cat', [join(dir, 'bin/one')]);

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 1_000; i += 1) {
    if (await isTrue()) return;
    await delay(20);
  }
  throw new Error('it never came');
}

describe.skipIf(!canMount)('a mount of the daemon', () => {
  it('is served by the daemon, and gone with peel umount', async () => {
    const node = newNode();
    const daemon = await DaemonProcess.start(node);
    const dir = await node.mount(registry.reference('zoo'));
    expect(await read(dir)).toBe('1');
    expect(processesUsing(node.dir)).toEqual([daemon.pid]);
    expect(await mountsOf(node)).toMatchObject([{ dir, daemon: true, state: 'serving', pid: daemon.pid }]);
    const { mounts } = await daemon.status();
    expect(mounts[0]?.serving).toHaveLength(tars.length);
    expect(mounts[0]?.serving[0]).toMatchObject({ serving: 'complete', why: expect.stringContaining('no index') });
    const text = await node.ok(['status']);
    expect(text).toContain(`process ${daemon.pid}`);
    expect(text).toMatch(new RegExp(`^${dir} .* served by the daemon \\(${daemon.pid}\\)$`, 'm'));
    expect(await node.ok(['logs', dir])).toMatch(
      new RegExp(`info +mount: mounted {2}mount=${mounts[0]?.id} dir=${dir}`),
    );
    await node.umount(dir);
    expect([mountsBelow(node.dir), await mountsOf(node)]).toEqual([[], []]);
    expect(await daemon.end()).toBe(0);
  });

  it('ends with umount(8) as well, and with a lazy one', async () => {
    const node = newNode();
    const daemon = await DaemonProcess.start(node);
    const [plain, rw] = [
      await daemon.mount(registry.reference('zoo')),
      await daemon.mount(registry.reference('zoo'), { writable: true }),
    ];
    await runOk('umount', [plain]);
    await daemon.unmount(rw, true);
    await until(async () => (await daemon.status()).mounts.length === 0);
    expect(mountsBelow(node.dir)).toEqual([]);
  });

  it.each([
    ['SIGTERM', [{}, { transport: 'native' }, { writable: true, upper: true }]],
    ['SIGKILL', [{ writable: true }, { transport: 'native' }]],
  ] as const)('is there again after %s, without the registry, with its changes', async (signal, wishes) => {
    const node = newNode();
    const own = await TestRegistry.start();
    onTestFinished(() => own.close());
    await own.push('app', layersOf(tars));
    const first = await DaemonProcess.start(node);
    const kept = await node.newDir('changes');
    const dirs: string[] = [];
    for (const wish of wishes)
      dirs.push(await first.mount(own.reference('app'), { ...wish, upper: 'upper' in wish ? kept : undefined }));
    const writable = dirs.filter((_, i) => 'writable' in (wishes[i] ?? {}));
    for (const dir of writable) await runOk('sh', ['-c', 'echo new >"$0/made"; rm "$0/bin/one"', dir]);
    const { mounts: before } = await first.status();
    const types = dirs.map(fileSystemAt);
    expect(await first.end(signal)).toBe(signal === 'SIGTERM' ? 0 : signal);
    expect(dirs.map(fileSystemAt)).toEqual(types);
    expect(await mountsOf(node)).toMatchObject(before.map(({ id }) => ({ id, state: 'dead', daemon: true })));
    await own.front.close();
    const second = await DaemonProcess.start(node);
    expect(dirs.map(fileSystemAt)).toEqual(types);
    for (const dir of dirs) {
      if (!writable.includes(dir)) expect(await read(dir)).toBe('1');
      else
        expect(await runOk('sh', ['-c', 'cat "$0/made"; cd "$0/bin"; ls one 2>&1 || true', dir])).toMatch(
          /^new\n.*one/,
        );
    }
    expect((await second.status()).mounts).toMatchObject(
      before.map(({ id, reference, digest, transport, why, mountedAt }) => ({
        id,
        reference,
        digest,
        transport,
        why,
        mountedAt,
        state: 'serving',
        pid: second.pid,
      })),
    );
    for (const dir of dirs) await second.unmount(dir);
    expect([mountsBelow(node.dir), (await second.status()).mounts]).toEqual([[], []]);
    expect(existsSync(join(kept, 'upper/made'))).toBe(signal === 'SIGTERM');
  });

  it('of a dead daemon is cleared away by peel umount, and stays away', async () => {
    const node = newNode();
    const first = await DaemonProcess.start(node);
    const dir = await first.mount(registry.reference('zoo'), { writable: true });
    await first.end('SIGKILL');
    expect(await node.ok(['mounts'])).toContain('dead: the daemon makes it again');
    await node.umount(dir);
    expect([mountsBelow(node.dir), await mountsOf(node)]).toEqual([[], []]);
    const second = await DaemonProcess.start(node);
    expect((await second.status()).mounts).toEqual([]);
  });

  it('that somebody unmounted while no daemon ran stays away', async () => {
    const node = newNode();
    const first = await DaemonProcess.start(node);
    const dir = await first.mount(registry.reference('zoo'));
    await first.end();
    await runOk('umount', [dir]);
    const second = await DaemonProcess.start(node);
    expect((await second.status()).mounts).toEqual([]);
    expect(mountsBelow(node.dir)).toEqual([]);
  });

  it('that cannot be made again is shown with the reason, and made when it can be', async () => {
    const node = newNode();
    const first = await DaemonProcess.start(node);
    const [covered, other] = [await node.mount(registry.reference('zoo')), await node.mount(registry.reference('zoo'))];
    await first.end();
    await runOk('mount', ['-t', 'tmpfs', 'peel-test', covered]);
    await runOk('umount', [other]);
    const second = await DaemonProcess.start(node);
    expect((await second.status()).mounts).toMatchObject([
      { dir: covered, error: expect.stringMatching(/tmpfs.* is mounted on/) },
    ]);
    expect(await node.ok(['status'])).toContain('not made again: something else (tmpfs)');
    await runOk('umount', [covered]);
    process.kill(second.pid, 'SIGHUP');
    await second.said(/configuration was read again/);
    expect(await read(covered)).toBe('1');
    const [made] = (await second.status()).mounts;
    expect([made?.dir, made?.state, made?.error]).toEqual([covered, 'serving', undefined]);
  });

  it('whose directory is gone can be given up', async () => {
    const node = newNode();
    const first = await DaemonProcess.start(node);
    const dir = await first.mount(registry.reference('zoo'));
    await first.end();
    // As a reboot leaves it: nothing mounted, and the row of another boot.
    await runOk('umount', [dir]);
    rmdirSync(dir);
    await runOk('python3', [
      '-c',
      'import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute("UPDATE mounts SET boot = \'before\'"); db.commit()',
      join(node.root, 'peel.db'),
    ]);
    expect(await mountsOf(node)).toMatchObject([{ dir, state: 'waiting' }]);
    const second = await DaemonProcess.start(node);
    expect((await second.status()).mounts).toMatchObject([
      { dir, state: 'waiting', error: expect.stringContaining('does not exist') },
    ]);
    await node.umount(dir);
    expect(await mountsOf(node)).toEqual([]);
  });

  it('leaves nothing when the mount fails or nobody waits for it any more', async () => {
    const node = newNode();
    const daemon = await DaemonProcess.start(node);
    const dir = await node.newDir();
    const failed = await node.peel(['mount', registry.reference('none'), dir]);
    expect(failed).toMatchObject({ code: 1, out: '' });
    expect(failed.err).toMatch(/^peel: .*none/);
    await registry.push('slow', layersOf(tars.slice(0, 1), 'zstd'));
    // The one who waits gives up when the layer does not come.
    let person: ChildProcess | undefined;
    const stop = registry.front.interfere(
      ({ url }) => url?.includes('/slow/blobs/') === true,
      () => void person?.kill('SIGINT'),
    );
    onTestFinished(stop);
    const waiting = node.peel(['mount', registry.reference('slow'), dir], { onStart: (child) => (person = child) });
    expect((await waiting).code).toBe(130);
    expect([mountsBelow(node.dir), (await daemon.status()).mounts]).toEqual([[], []]);
    expect(processesUsing(node.dir)).toEqual([daemon.pid]);
  });

  it("has a process of its own when it is below a mount of the daemon, or asks with somebody's password", async () => {
    const node = newNode();
    const daemon = await DaemonProcess.start(node);
    const outer = await daemon.mount(registry.reference('zoo'), { writable: true });
    await runOk('mkdir', [join(outer, 'inner')]);
    await node.ok(['mount', registry.reference('zoo'), join(outer, 'inner')]);
    const dir = await node.newDir();
    await node.ok(['mount', registry.reference('zoo'), dir, '--user', 'ann:secret']);
    const pids = (await daemon.status()).mounts.map(({ pid }) => pid);
    expect(pids.filter((pid) => pid === daemon.pid)).toHaveLength(1);
    expect(new Set(pids).size).toBe(3);
    // Written behind the answer.
    await expect.poll(() => node.ok(['logs', dir]), { timeout: 20_000 }).toContain('mounted');
    for (const place of [join(outer, 'inner'), dir, outer]) await node.umount(place);
    expect(mountsBelow(node.dir)).toEqual([]);
  });
});

describe('peel daemon', () => {
  it('is alone with its directories, and says who has them', async () => {
    const node = newNode();
    const daemon = await DaemonProcess.start(node);
    const again = await node.peel(['daemon']);
    expect(again).toMatchObject({ code: 1 });
    expect(again.err).toMatch(new RegExp(`process ${daemon.pid}\\) already uses ${node.root}`));
    const elsewhere = await node.peel(['daemon', '--root', join(node.dir, 'other')]);
    expect(elsewhere.err).toMatch(new RegExp(`process ${daemon.pid}\\) already uses ${node.dir}/run`));
    expect((await daemon.status()).pid).toBe(daemon.pid);
    await daemon.end('SIGKILL');
    await (await DaemonProcess.start(node)).end();
  });

  it('cannot be looked into, and leaves its working directory', async () => {
    const daemon = await DaemonProcess.start(newNode());
    expect(await runOk('readlink', [`/proc/${daemon.pid}/cwd`])).toBe('/\n');
    expect(await runOk('stat', ['-c', '%U', `/proc/${daemon.pid}/maps`])).toBe('root\n');
  });

  it('is what peel status asks for', async () => {
    const node = newNode();
    const { code, out, err } = await node.peel(['status']);
    expect([code, out]).toEqual([1, '']);
    expect(err).toContain(`no daemon answers on ${node.dir}/run/control.sock: start it with`);
    expect((await node.peel(['logs'])).err).toMatch(/no daemon answers/);
  });

  it('may have its state directory from its configuration', async () => {
    const node = newNode();
    const root = join(node.dir, 'elsewhere');
    const daemon = await DaemonProcess.start(node, { config: `root = "${root}"`, env: { PEEL_ROOT: '' } });
    expect((await node.peel(['status'])).err).toContain(`has its state in ${root}, not in ${node.root}`);
    const unnamed = { env: { ...node.env, PEEL_ROOT: '', HOME: node.dir } };
    const dir = await node.newDir();
    const mounted = await node.peel(['mount', registry.reference('zoo'), dir], unnamed);
    expect(mounted.code).toBe(0);
    expect((await daemon.status()).mounts).toMatchObject([{ dir, daemon: true, pid: daemon.pid }]);
    await daemon.unmount(dir);
    await daemon.end();
  });
});
