// `peel keeper` and `peel upgrade` as a person at the shell has them, with the real daemon.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { neededCapabilities } from '../../src/daemon/capabilities.ts';
import { keeperStatus } from '../../src/daemon/keeper-status.ts';
import { FdKeeper } from '../../src/daemon/fd-keeper.ts';
import { PeelNode } from '../support/peel-node.ts';
import { peelMain } from '../support/run.ts';

/** A node whose `peel keeper` answers, with the arguments behind it. */
async function nodeWithKeeper(...args: string[]) {
  const node = new PeelNode();
  onTestFinished(() => node.close());
  const child = spawn(process.execPath, [peelMain, 'keeper', ...args], {
    env: { ...process.env, ...node.env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
  onTestFinished(() => void child.kill('SIGKILL'));
  const socket = join(node.dir, 'run', 'keeper.sock');
  const status = async () => await keeperStatus({ socket });
  await expect.poll(() => existsSync(socket), { timeout: 20_000, interval: 20 }).toBe(true);
  return { node, child, socket, status, log: () => log };
}

/** An executable in the node's folder. */
function program(node: PeelNode, name: string, ...lines: string[]): string {
  const file = join(node.dir, name);
  writeFileSync(file, ['#!/bin/sh', ...lines, ''].join('\n'));
  chmodSync(file, 0o755);
  return file;
}

/** The capabilities that a process and those it starts can have at most. */
function boundsOf(pid: number): string | undefined {
  return /^CapBnd:\t(\w+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
}

/** What the test has the keeper keep, and the two sockets of the daemon. */
const kept = 3;

it('upgrades the daemon, and takes back a version that does not become ready', async () => {
  const { node, child, socket, status, log } = await nodeWithKeeper('--', '--log-level', 'debug');
  await expect.poll(async () => (await status())?.daemon?.phase, { timeout: 20_000, interval: 20 }).toBe('ready');
  const args = ['daemon', '--log-level', 'debug'];
  expect((await status())?.daemon?.command).toEqual([process.execPath, peelMain, ...args]);
  // So that the daemon need not start itself again to have no more.
  expect(boundsOf(child.pid ?? 0)).toBe(boundsOf((await status())?.daemon?.pid ?? 0));
  const keeper = await FdKeeper.connect({ socket });
  const fd = openSync('/dev/null', 'r');
  onTestFinished(() => closeSync(fd));
  await keeper?.store('kept', fd);
  keeper?.close();

  const next = program(node, 'next', `exec ${process.execPath} ${peelMain} "$@"`);
  const first = await status();
  expect(await node.ok(['upgrade', '--to', next])).toMatch(/^process \d+ serves after /);
  const second = await status();
  expect(second).toMatchObject({ fds: kept, daemon: { phase: 'ready', restarts: 1, command: [next, ...args] } });
  expect(second?.pid).toBe(first?.pid);
  expect(second?.daemon?.pid).not.toBe(first?.daemon?.pid);

  const broken = program(node, 'broken', 'echo "cannot load the new version" >&2', 'exit 4');
  const refused = await node.peel(['upgrade', '--to', broken]);
  expect([refused.code, refused.err]).toEqual([
    1,
    expect.stringMatching(
      /exit code 4; the old version runs again; it wrote last:\n {2}cannot load the new version\n$/,
    ),
  ]);
  const third = await status();
  expect(third).toMatchObject({ fds: kept, daemon: { phase: 'ready', restarts: 3, command: [next, ...args] } });
  expect(await node.ok(['status'])).toMatch(
    /^keeper, process \d+, holds 3 of at most \d+ file descriptors, starts the daemon, 3 restarts/m,
  );
  expect(await node.json(['status'])).toMatchObject({ pid: third?.daemon?.pid, keeper: { mode: 'parent', fds: kept } });

  const nowhere = await node.peel(['upgrade', '--to', join(node.dir, 'nowhere')]);
  expect([nowhere.code, nowhere.err]).toEqual([1, expect.stringContaining('is not there')]);
  expect(await node.peel(['upgrade', '--to', next, 'x'])).toMatchObject({ code: 2 });
  expect((await status())?.daemon?.pid).toBe(third?.daemon?.pid);

  const gone = once(child, 'close');
  child.kill('SIGTERM');
  expect(await gone).toEqual([0, null]);
  expect(log()).toMatch(/"msg":"daemon stops"/);
  expect(await node.peel(['status'])).toMatchObject({ code: 1 });
}, 120_000);

it('says what to do where the keeper starts no daemon, or is none', async () => {
  const { node, status } = await nodeWithKeeper('--alone');
  const alone = await node.peel(['upgrade']);
  expect([alone.code, alone.err]).toEqual([
    1,
    expect.stringMatching(/did not start the daemon: with systemd, .*systemctl restart peel/),
  ]);
  const found = await node.peel(['status']);
  expect([found.code, found.out]).toEqual([
    1,
    expect.stringMatching(/^keeper, process \d+, holds 0 of at most \d+ file descriptors\n/),
  ]);
  expect(await node.peel(['keeper', '--alone', 'x'])).toMatchObject({ code: 2 });
  expect(await node.peel(['keeper', '--', '--config', 'x'])).toMatchObject({ code: 2 });
  const line = readFileSync(`/proc/${(await status())?.pid}/cmdline`, 'utf8').split('\0');
  expect(line.slice(1)).toEqual([
    '--socket',
    join(node.dir, 'run', 'keeper.sock'),
    '--capabilities',
    String(neededCapabilities),
    '',
  ]);
  const other = new PeelNode();
  onTestFinished(() => other.close());
  const none = await other.peel(['upgrade']);
  expect([none.code, none.err]).toEqual([1, expect.stringContaining('no keeper answers')]);
});
