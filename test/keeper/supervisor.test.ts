// The keeper as the parent of a daemon: here a small one, which says what happens to it.
import { once } from 'node:events';
import { closeSync, fstatSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { upgradeDaemon } from '../../src/daemon/keeper-status.ts';
import { KeeperProcess, type KeeperSetting, sanitizedKeeper } from '../support/keeper-process.ts';
import { start } from '../support/run.ts';
import { tempDir } from '../support/tmp.ts';

const script = new URL('../support/small-daemon.py', import.meta.url).pathname;
const notifyScript = new URL('../support/notify-socket.py', import.meta.url).pathname;

function small(...words: string[]): string[] {
  return ['/usr/bin/env', 'python3', script, ...words];
}

async function keeperOf(words: readonly string[], setting: KeeperSetting = {}): Promise<KeeperProcess> {
  return await KeeperProcess.start({ command: small(...words), ...setting });
}

/** Once the daemon is ready: its process. */
async function ready(keeper: KeeperProcess, unlike = 0): Promise<number> {
  const { daemon } = await keeper.becomes(({ daemon }) => daemon?.phase === 'ready' && daemon.pid !== unlike);
  return daemon?.pid ?? 0;
}

async function said(keeper: KeeperProcess, what: RegExp): Promise<void> {
  await expect.poll(() => keeper.log, { timeout: 20_000, interval: 10 }).toMatch(what);
}

/** Upgrades to another small daemon; what was wrong, with the lines of the log. */
async function upgradeTo(keeper: KeeperProcess, words: readonly string[], readyMs = 10_000) {
  const command = words.length === 0 ? [] : small(...words);
  return await upgradeDaemon({ socket: keeper.socket, command, readyMs }).catch((error: unknown) => error as Error);
}

it('starts a daemon again when it ends, with what it needs and nothing else', async () => {
  const keeper = await keeperOf(['files', 'environment', 'rights', 'ready'], {
    env: { LISTEN_FDS: '1', LISTEN_PID: '1' },
  });
  const file = join(tempDir(), 'kept');
  writeFileSync(file, '');
  const fd = openSync(file, 'r');
  onTestFinished(() => closeSync(fd));
  await (await keeper.client()).store('kept', fd);
  const first = await ready(keeper);
  process.kill(first, 'SIGKILL');
  const second = await ready(keeper, first);
  expect(await keeper.status()).toMatchObject({
    mode: 'parent',
    fds: 1,
    daemon: { pid: second, restarts: 1, lastEnd: 'killed by signal 9' },
  });
  const client = await keeper.client();
  expect(fstatSync(client.received.get('kept') ?? -1).ino).toBe(fstatSync(fd).ino);
  // Neither what is kept nor a socket of the keeper.
  await said(keeper, /(^small rights [^]*){2}/m);
  expect(keeper.log.match(/^small files .*/gm)).toEqual(
    Array(2).fill(expect.stringMatching(/^small files null null pipe$/)),
  );
  expect(keeper.log.match(/^small environment .*/gm)).toEqual(
    Array(2).fill('small environment NOTIFY_SOCKET WATCHDOG_USEC=60000000'),
  );
  const own = /^CapEff:\s*(\w+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  expect(keeper.log).toContain(`small rights ${own}\n`);
});

it('starts one that comes to nothing again and again, after growing pauses', async () => {
  const keeper = await KeeperProcess.start({ command: ['/bin/sh', '-c', 'echo small failing >&2; exit 3'] });
  await said(keeper, /next start is in 400 ms/);
  const pauses = [...keeper.log.matchAll(/the next start is in (\S+ \w+)/g)].map(([, pause]) => pause);
  expect(pauses.slice(0, 3)).toEqual(['100 ms', '200 ms', '400 ms']);
  const starts = [...keeper.log.matchAll(/"time":"([^"]+)"[^}]*daemon is started/g)].map(([, time]) =>
    Date.parse(time ?? ''),
  );
  expect((starts[3] ?? 0) - (starts[2] ?? 0)).toBeGreaterThanOrEqual(199);
  expect((await keeper.status()).daemon).toMatchObject({ phase: 'pausing', pid: 0, lastEnd: 'exit code 3' });
  // While it waits there is nobody to be ended.
  expect(await keeper.end()).toBe(0);
});

it('believes nobody but the daemon that it is ready', async () => {
  const keeper = await keeperOf(['child-ready', 'said']);
  await said(keeper, /^small said/m);
  await delay(50);
  expect((await keeper.status()).daemon?.phase).toBe('starting');
});

/** The datagrams that a service manager has got. */
async function manager() {
  const socket = join(tempDir(), 'manager');
  const { child } = await start('python3', [notifyScript, socket], /ready/);
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const told = () => text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as string]));
  return { socket, told };
}

it('kills a daemon that gives no sign of life, and gives its own manager some', async () => {
  const { socket, told } = await manager();
  const began = performance.now();
  const keeper = await keeperOf(['environment', 'beating', 'ready'], {
    env: { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '600000' },
  });
  const first = await ready(keeper);
  await delay(1_300);
  expect((await keeper.status()).daemon).toMatchObject({ pid: first, restarts: 0 });
  // Its own, and none of the daemon's, which are many more.
  const signs = told().filter((text) => text === 'WATCHDOG=1').length;
  expect(signs).toBeGreaterThan(2);
  expect(signs).toBeLessThan((performance.now() - began) / 300 + 2);
  process.kill(first, 'SIGSTOP');
  const second = await ready(keeper, first);
  expect((await keeper.status()).daemon).toMatchObject({ restarts: 1, lastEnd: 'killed by signal 9' });
  expect(keeper.log).toContain('the daemon has given no sign of life for 600 ms and is killed');
  expect(keeper.log).toContain('small environment NOTIFY_SOCKET WATCHDOG_USEC=600000\n');
  // A new program of the keeper goes on with it.
  process.kill(second, 'SIGSTOP');
  process.kill(keeper.pid, 'SIGUSR2');
  await keeper.becomes(({ executions }) => executions === 1);
  await ready(keeper, second);
  expect((await keeper.status()).daemon).toMatchObject({ restarts: 2, lastEnd: 'killed by signal 9' });
});

it('passes on SIGHUP, ends with the daemon, and tells its own manager what concerns it', async () => {
  const { socket, told } = await manager();
  const keeper = await keeperOf(['ready'], { env: { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '5', WATCHDOG_PID: '1' } });
  await ready(keeper);
  process.kill(keeper.pid, 'SIGHUP');
  await said(keeper, /^small got SIGHUP/m);
  expect(await keeper.end()).toBe(0);
  expect(keeper.log).toMatch(/^small got SIGTERM/m);
  await expect.poll(told).toEqual(['READY=1\nSTATUS=well', 'STOPPING=1']);
});

it('kills a daemon that does not end at the second signal', async () => {
  const keeper = await keeperOf(['deaf', 'ready']);
  await ready(keeper);
  const gone = once(keeper.child, 'close');
  process.kill(keeper.pid, 'SIGTERM');
  await said(keeper, /keeper|small/);
  await keeper.becomes(({ daemon }) => daemon?.phase === 'ending');
  process.kill(keeper.pid, 'SIGTERM');
  expect(await gone).toEqual([0, null]);
  expect(keeper.log).toContain('killed by signal 9');
});

it('becomes a new program while its daemon goes on', async () => {
  const keeper = await keeperOf(['ready'], { program: await sanitizedKeeper() });
  const first = await ready(keeper);
  for (let round = 1; round <= 3; round += 1) {
    process.kill(keeper.pid, 'SIGUSR2');
    const { daemon } = await keeper.becomes(({ executions }) => executions === round);
    expect(daemon).toMatchObject({ pid: first, phase: 'ready', restarts: 0 });
  }
  // It is its child still, and its log comes through.
  process.kill(first, 'SIGHUP');
  await said(keeper, /^small got SIGHUP/m);
  process.kill(first, 'SIGKILL');
  const second = await ready(keeper, first);
  expect((await keeper.status()).daemon).toMatchObject({ pid: second, restarts: 1 });
  // What has ended before it could look is noticed as well.
  process.kill(keeper.pid, 'SIGSTOP');
  process.kill(second, 'SIGKILL');
  process.kill(keeper.pid, 'SIGUSR2');
  process.kill(keeper.pid, 'SIGCONT');
  await ready(keeper, second);
  expect(await keeper.end()).toBe(0);
  expect(keeper.log).not.toMatch(/Sanitizer|runtime error/);
});

it('replaces the daemon by another version', async () => {
  const keeper = await keeperOf(['old', 'ready']);
  const first = await ready(keeper);
  const done = await upgradeTo(keeper, ['new', 'sleep=0.2', 'ready']);
  expect(done).toMatchObject({ tookMs: expect.any(Number) });
  const { daemon } = await keeper.status();
  expect(daemon).toMatchObject({ phase: 'ready', command: small('new', 'sleep=0.2', 'ready') });
  expect(daemon?.pid).not.toBe(first);
  // It is the version from now on.
  process.kill(daemon?.pid ?? 0, 'SIGKILL');
  await ready(keeper, daemon?.pid);
  await expect
    .poll(() => keeper.log.match(/^small (old|new|got SIGTERM)/gm))
    .toEqual(['small old', 'small got SIGTERM', 'small new', 'small new']);
  // And the same once more.
  expect(await upgradeTo(keeper, [])).toMatchObject({ pid: expect.any(Number) });
});

const never = 'echo small words >&2; exec sleep 100';

it.each<[string, string[], number, RegExp]>([
  ['ends', small('words', 'exit=7'), 60_000, /ended before it was ready: exit code 7; the old version runs again$/],
  ['lets another say that it is ready', small('child-ready', 'words', 'exit=0'), 60_000, /exit code 0; the old/],
  ['is never ready', ['/bin/sh', '-c', never], 1_000, /was not ready within 1 s; the old version runs again$/],
  ['neither becomes ready nor ends', ['/bin/sh', '-c', `trap '' TERM; ${never}`], 1_000, /within 1 s; the old/],
  ['is not there', ['/nowhere/peel'], 60_000, /exit code 127; the old version runs again$/],
])('takes back a version that %s', async (what, command, readyMs, wanted) => {
  const keeper = await keeperOf(['old', 'ready']);
  const first = await ready(keeper);
  const { socket } = keeper;
  await expect(upgradeDaemon({ socket, command, readyMs })).rejects.toMatchObject({
    code: 'ERR_KEEPER_REFUSED',
    message: expect.stringMatching(wanted),
    log: [what === 'is not there' ? expect.stringContaining('No such file') : 'small words'],
  });
  const { daemon } = await keeper.status();
  expect(daemon).toMatchObject({ phase: 'ready', command: small('old', 'ready') });
  expect(daemon?.pid).not.toBe(first);
});

it('says so when the old version does not come back, and goes on trying', async () => {
  const flag = join(tempDir(), 'flag');
  writeFileSync(flag, '');
  // Comes up only while the flag is there.
  const command = ['/bin/sh', '-c', `test -e ${flag} && exec /usr/bin/env python3 ${script} ready; exit 9`];
  const keeper = await KeeperProcess.start({ command });
  await ready(keeper);
  rmSync(flag);
  const error = await upgradeTo(keeper, ['exit=7']);
  expect(error).toMatchObject({
    message: expect.stringMatching(/exit code 7; the old version ended as well: exit code 9$/),
  });
  writeFileSync(flag, '');
  await ready(keeper);
});

it('does one thing at a time, and goes on with it when nobody waits any more', async () => {
  const keeper = await keeperOf(['old', 'ready']);
  const first = await ready(keeper);
  const abort = new AbortController();
  const { socket } = keeper;
  const command = small('new', 'sleep=0.5', 'ready');
  const asked = upgradeDaemon({ socket, command, readyMs: 10_000, signal: abort.signal });
  await keeper.becomes(({ daemon }) => daemon?.pid !== first);
  expect(await upgradeTo(keeper, [])).toMatchObject({ message: 'keeper: another upgrade is under way' });
  process.kill(keeper.pid, 'SIGUSR2');
  await said(keeper, /not executed anew: an upgrade is under way/);
  abort.abort(new Error('enough'));
  await expect(asked).rejects.toThrow('enough');
  await ready(keeper, first);
  expect((await keeper.status()).daemon?.command).toEqual(command);
  // Told to stop meanwhile, it says so.
  const last = upgradeTo(keeper, ['deaf', 'words']);
  await said(keeper, /^small words/m);
  process.kill(keeper.pid, 'SIGTERM');
  expect(await last).toMatchObject({ message: 'keeper: the keeper was told to stop' });
});

it('has no daemon to upgrade when it is alone', async () => {
  const keeper = await KeeperProcess.start();
  expect(await upgradeTo(keeper, [])).toMatchObject({ message: 'keeper: this keeper has no daemon of its own' });
});
