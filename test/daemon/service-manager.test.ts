// The daemon as a service: what it tells the one that started it, and the sockets it is handed.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ControlClient } from '../../src/daemon/control-client.ts';
import { ServiceManager } from '../../src/daemon/service-manager.ts';
import { LogRing } from '../../src/observe/log-ring.ts';
import { createAdjustableLog } from '../../src/observe/log.ts';
import { DaemonProcess } from '../support/daemon-process.ts';
import { PeelNode } from '../support/peel-node.ts';
import { stop } from '../support/run.ts';

const program = (name: string) => new URL(`../support/${name}`, import.meta.url).pathname;

function newNode(): PeelNode {
  const node = new PeelNode();
  onTestFinished(() => node.close());
  return node;
}

/** What arrives at the service manager's socket, one datagram after another. */
async function serviceManager(
  node: PeelNode,
): Promise<{ path: string; next: () => Promise<string>; child: ChildProcess }> {
  const path = join(node.dir, 'notify.sock');
  const child = spawn('python3', [program('notify-socket.py'), path], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => stop(child));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => JSON.parse(String((await lines.next()).value)) as string;
  expect(await next()).toBe('ready');
  return { path, next, child };
}

describe('the daemon under a service manager', () => {
  it('says when it is ready, reads its configuration, and stops', async () => {
    const node = newNode();
    const manager = await serviceManager(node);
    const daemon = await DaemonProcess.start(node, { env: { NOTIFY_SOCKET: manager.path } });
    expect(await manager.next()).toMatch(/^READY=1\nSTATUS=serving 0 mounts$/);
    process.kill(daemon.pid, 'SIGHUP');
    const [, time] = /^RELOADING=1\nMONOTONIC_USEC=(\d+)\nSTATUS=/.exec(await manager.next()) ?? [];
    // CLOCK_MONOTONIC, which /proc/uptime is near to.
    expect(Math.abs(Number(time) / 1e6 - Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]))).toBeLessThan(600);
    expect(await manager.next()).toMatch(/^READY=1\n/);
    daemon.reconfigure('nonsense');
    process.kill(daemon.pid, 'SIGHUP');
    expect(await manager.next()).toMatch(/^RELOADING=1\n/);
    expect(await manager.next()).toMatch(/^READY=1\n/);
    expect(await daemon.end()).toBe(0);
    expect(await manager.next()).toMatch(/^STOPPING=1\n/);
  });

  it('feeds its watchdog, but not when the process is meant by nobody', async () => {
    const node = newNode();
    const manager = await serviceManager(node);
    const env = { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: '200000' };
    const first = await DaemonProcess.start(node, { env });
    expect(await manager.next()).toMatch(/^READY=1\n/);
    for (let i = 0; i < 3; i += 1) expect(await manager.next()).toBe('WATCHDOG=1');
    await first.end('SIGKILL');
    const second = await DaemonProcess.start(node, { env: { ...env, WATCHDOG_PID: '1' } });
    await second.end();
    let told = await manager.next();
    while (told === 'WATCHDOG=1') told = await manager.next();
    expect(told).toMatch(/^READY=1\n/);
    expect(await manager.next()).toMatch(/^STOPPING=1\n/);
  });

  it('does not feed it while it is not well', async () => {
    const { path, next } = await serviceManager(newNode());
    let problem: string | undefined;
    const check = () => {
      if (problem !== undefined) throw new Error(problem);
    };
    const ring = new LogRing();
    const { log } = createAdjustableLog({ to: '/dev/null', ring });
    const service = new ServiceManager({ socket: path, watchdogMs: 20, check, log });
    onTestFinished(() => service.stopping());
    service.ready('fine');
    expect([await next(), await next()]).toEqual(['READY=1\nSTATUS=fine', 'WATCHDOG=1']);
    problem = 'the database does not answer';
    while (ring.tail(1)[0]?.includes(problem) !== true) await delay(5);
    service.reloading();
    while ((await next()) === 'WATCHDOG=1');
    service.ready('still\nill');
    expect(await next()).toBe('READY=1\nSTATUS=still ill');
    problem = undefined;
    expect(await next()).toBe('WATCHDOG=1');
  });

  it('starts without one that cannot be reached', async () => {
    const node = newNode();
    const daemon = await DaemonProcess.start(node, { env: { NOTIFY_SOCKET: join(node.dir, 'nobody') } });
    await daemon.said(/cannot reach the service manager/);
    expect(await daemon.end()).toBe(0);
  });

  it('serves on sockets that were bound for it, and hands none of them on', async () => {
    const node = newNode();
    const path = join(node.dir, 'bound.sock');
    const passed = ['python3', program('pass-sockets.py'), `control=${path}`, `other=${join(node.dir, 'o')}`, '--'];
    const daemon = await DaemonProcess.start(node, { through: passed });
    const client = await ControlClient.connect(path);
    expect(client?.hello.pid).toBe(daemon.pid);
    expect(existsSync(daemon.socket)).toBe(false);
    expect(daemon.log).toMatch(/"name":"other"/);
    // O_CLOEXEC
    for (const fd of [3, 4]) {
      const info = readFileSync(`/proc/${daemon.pid}/fdinfo/${fd}`, 'utf8');
      expect(parseInt(/flags:\s*([0-7]+)/.exec(info)?.[1] ?? '', 8) & 0o2000000).toBe(0o2000000);
    }
    expect(await daemon.end()).toBe(0);
    // It is the service manager's: the next daemon is handed it again.
    expect(existsSync(path)).toBe(true);
  });

  it('takes a socket that a killed one left, and no living one', async () => {
    const node = newNode();
    const first = await DaemonProcess.start(node);
    await first.end('SIGKILL');
    expect(existsSync(first.socket)).toBe(true);
    const second = await DaemonProcess.start(node, {
      config: `control.socket = "${join(node.dir, 'run/control.sock')}"`,
    });
    expect((await second.status()).pid).toBe(second.pid);
    const file = join(node.dir, 'other.toml');
    writeFileSync(file, `control.socket = "${second.socket}"`);
    const other = await node.peel(['daemon', '--config', file], {
      env: { PEEL_ROOT: join(node.dir, 'other'), PEEL_RUN_DIR: join(node.dir, 'other-run') },
    });
    expect(other).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^peel: control API: .*another process listens there$/m),
    });
  });

  it('takes a run directory however its path is written, and tells what it only puts up with', async () => {
    const node = newNode();
    const config = `run_dir = "${node.dir}/run/"\nsnapshotter.mode = "lazy"\n[index.formats]\npeel = false\nsoci_v1 = false\nsoci_v2 = false\n`;
    const daemon = await DaemonProcess.start(node, { config, env: { PEEL_RUN_DIR: '' } });
    const what = /index\.formats: every index format is switched off/;
    expect(daemon.log).toMatch(what);
    expect((await daemon.status()).warnings).toEqual([expect.stringMatching(what)]);
    expect(await node.ok(['status'])).toMatch(/^warning: index\.formats/m);
    daemon.reconfigure(`run_dir = "${node.dir}/run/"\n`);
    await (await daemon.client()).reload();
    expect((await daemon.status()).warnings).toEqual([]);
  });

  it('needs a configuration that makes sense and a run directory', async () => {
    const node = newNode();
    expect((await node.peel(['daemon', '--config', join(node.dir, 'none.toml')])).code).toBeGreaterThan(0);
    const nowhere = await node.peel(['daemon'], { env: { PEEL_RUN_DIR: '/proc/peel' } });
    expect(nowhere).toMatchObject({ code: 1, err: expect.stringMatching(/run directory \/proc\/peel cannot be used/) });
  });
});
