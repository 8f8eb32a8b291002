// The process that holds file descriptors, asked over its socket, as it is built and under the sanitizers.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { FdKeeper } from '../../src/daemon/fd-keeper.ts';
import { KeeperReturn } from '../../src/daemon/keeper-return.ts';
import { executeKeeper } from '../../src/daemon/keeper-status.ts';
import { FdConnection } from '../../src/native/fd-messages.ts';
import { keeperProgram } from '../../src/native/keeper-program.ts';
import { newFuseMount } from '../../src/native/mounts.ts';
import { silentLog } from '../../src/observe/log.ts';
import { rounds } from '../support/fixtures.ts';
import { KeeperProcess, sanitizedKeeper } from '../support/keeper-process.ts';
import { canMount } from '../support/peel-node.ts';
import { run, runOk } from '../support/run.ts';
import { tempDir } from '../support/tmp.ts';

const clientScript = new URL('../support/keeper-client.py', import.meta.url).pathname;
const isRoot = process.getuid?.() === 0;
let sanitized = '';
beforeAll(async () => {
  sanitized = await sanitizedKeeper();
}, 300_000);

/** A file that is open for the test. */
function openFile(text = 'text'): { readonly fd: number; readonly ino: number } {
  const file = join(tempDir(), 'file');
  writeFileSync(file, text);
  const fd = openSync(file, 'r');
  onTestFinished(() => closeSync(fd));
  return { fd, ino: fstatSync(fd).ino };
}

/** A pipe, whose ends the caller closes. */
async function openPipe(): Promise<{ readonly reader: number; readonly writer: number }> {
  const fifo = join(tempDir(), 'fifo');
  await runOk('mkfifo', [fifo]);
  const reader = openSync(fifo, 'r+');
  const writer = openSync(fifo, 'w');
  return { reader, writer };
}

/** Name → inode of all that a new client is given. */
async function kept(keeper: KeeperProcess): Promise<Record<string, number>> {
  const client = await keeper.client();
  const found = Object.fromEntries([...client.received].map(([name, fd]) => [name, fstatSync(fd).ino]));
  client.close();
  return found;
}

/** Of user and system together, a hundredth of a second each. */
function cpuTicks(pid: number): number {
  const [user, system] = readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/.*\) /, '').split(' ').slice(11, 13);
  return Number(user) + Number(system);
}

async function said(keeper: KeeperProcess, what: string): Promise<string[]> {
  const lines = (await runOk('python3', [clientScript, keeper.socket, what])).trim().split('\n');
  return lines.map((line) => JSON.parse(line) as string);
}

describe.each([
  ['as it is built', () => keeperProgram()],
  ['under the sanitizers', () => sanitized],
] as const)('the keeper, %s,', (kind, program) => {
  const startKeeper = (setting = {}) => KeeperProcess.start({ program: program(), ...setting });

  it('gives back what it was given, the same open files, until they are removed', async () => {
    const keeper = await startKeeper();
    const [a, b] = [openFile('abcdef'), openFile()];
    const giver = await keeper.client();
    expect(giver.received.size).toBe(0);
    await giver.store('tree:1'.replace(':', ' '), a.fd);
    await giver.store('b', b.fd, { dropWhenDead: false });
    readSync(a.fd, Buffer.alloc(2));
    giver.close();
    const taker = await keeper.client();
    const fd = taker.take('tree 1') ?? -1;
    onTestFinished(() => closeSync(fd));
    expect([...taker.received.keys()]).toEqual(['b']);
    // The position is the open file's.
    const rest = Buffer.alloc(10);
    expect([fstatSync(fd).ino, rest.toString('utf8', 0, readSync(fd, rest))]).toEqual([a.ino, 'cdef']);
    await taker.store('b', a.fd);
    expect(await kept(keeper)).toEqual({ 'tree 1': a.ino, b: a.ino });
    await taker.remove('b');
    await taker.remove('b');
    expect(await kept(keeper)).toEqual({ 'tree 1': a.ino });
    expect(await keeper.status()).toMatchObject({ mode: 'alone', pid: keeper.pid, fds: 1, program: program() });
  });

  it('answers what is no request with the reason, and keeps nothing of it', async () => {
    const keeper = await startKeeper();
    const before = await keeper.openFiles();
    const answers = await said(keeper, 'hostile');
    expect(answers.slice(0, -2).map((answer) => /^ERROR=\S.*$/.test(answer))).toEqual(Array(20).fill(true));
    expect(answers.slice(-2)).toEqual(['OK=1', 'OK=1']);
    expect(Object.keys(await kept(keeper)).sort()).toEqual(['stored', 'x'.repeat(255)]);
    expect(await keeper.openFiles()).toBe(before + 2);
  });

  it('answers random messages, and no more of them than came', async () => {
    const keeper = await startKeeper();
    const { fd } = openFile();
    const connection = FdConnection.open(keeper.socket);
    onTestFinished(() => connection.close());
    const words = [
      'FDSTORE',
      'FDNAME',
      'FDSTOREREMOVE',
      'PEEL',
      'ARG',
      'TIMEOUT_MSEC',
      '=',
      '=',
      '1',
      '0',
      'fds',
      'upgrade',
      '\n',
      '\n',
      ' ',
      'é',
    ];
    const word = () => words[Math.floor(Math.random() * words.length)] ?? '';
    for (let round = 0; round < rounds(2000, 200, 0.1); round += 1) {
      const text = Array.from({ length: 1 + Math.floor(Math.random() * 12) }, word).join('');
      const answers = await connection.exchange(text, { timeoutMs: 5000, fd: round % 2 === 0 ? fd : undefined });
      for (const { fd } of answers) if (fd !== undefined) closeSync(fd);
      expect(answers.at(-1)?.text, JSON.stringify(text)).toMatch(/^(OK=1|ERROR=\S)/);
    }
    expect((await keeper.status()).pid).toBe(keeper.pid);
  });

  it('holds no more than its limit allows, and says so', async () => {
    const keeper = await startKeeper({ through: ['prlimit', '--nofile=64:64'] });
    const { fd } = openFile();
    const client = await keeper.client();
    const { maxFds } = await keeper.status();
    expect(maxFds).toBe(32);
    for (let i = 0; i < maxFds; i += 1) await client.store(`fd ${i}`, fd);
    await expect(client.store('one more', fd)).rejects.toMatchObject({
      code: 'ERR_KEEPER_REFUSED',
      message: 'keeper: 32 file descriptors are kept, and no more can be',
    });
    await client.store('fd 0', fd);
    await client.remove('fd 0');
    await client.store('one more', fd);
    expect((await keeper.status()).fds).toBe(32);
    // More clients than it can let in: it waits, and does not try without a pause.
    const crowd = Array.from({ length: 40 }, () => FdConnection.open(keeper.socket));
    onTestFinished(() => crowd.forEach((connection) => connection.close()));
    const before = cpuTicks(keeper.pid);
    await delay(300);
    expect(cpuTicks(keeper.pid) - before).toBeLessThan(10);
    for (const connection of crowd) connection.close();
    expect((await keeper.status()).fds).toBe(32);
  });

  it('drops what is of no use any more, but not what is not to be looked at', async () => {
    const keeper = await startKeeper();
    const client = await keeper.client();
    const { reader, writer } = await openPipe();
    await client.store('looked at', writer);
    await client.store('not looked at', writer, { dropWhenDead: false });
    expect(Object.keys(await kept(keeper))).toHaveLength(2);
    closeSync(reader);
    expect(Object.keys(await kept(keeper))).toEqual(['not looked at']);
    await expect(client.store('again', writer)).rejects.toMatchObject({ code: 'ERR_KEEPER_REFUSED' });
    closeSync(writer);
    await vi.waitFor(() => expect(keeper.log).toContain('looked at is of no use any more'), 5_000);
  });

  it.skipIf(!canMount)('keeps a FUSE connection for as long as it is mounted', async () => {
    const keeper = await startKeeper();
    const client = await keeper.client();
    const device = openSync('/dev/fuse', 'r+');
    await expect(client.store('unmounted', device)).rejects.toThrow('not mounted yet');
    closeSync(device);
    const { fd, mount } = await newFuseMount({ allowOther: false });
    await client.store('mounted', fd);
    closeSync(fd);
    expect(Object.keys(await kept(keeper))).toEqual(['mounted']);
    mount.close();
    expect(Object.keys(await kept(keeper))).toEqual([]);
  });

  it('serves others while a client takes no answers', async () => {
    const keeper = await startKeeper();
    const { fd, ino } = openFile();
    const client = await keeper.client();
    for (let i = 0; i < 300; i += 1) await client.store(`fd ${i}`, fd);
    const python = spawn('python3', [clientScript, keeper.socket, 'idle'], { stdio: ['pipe', 'pipe', 'inherit'] });
    onTestFinished(() => void python.kill('SIGKILL'));
    await once(python.stdout, 'data');
    await client.remove('fd 7');
    const found = await kept(keeper);
    expect(Object.keys(found)).toHaveLength(299);
    expect(new Set(Object.values(found))).toEqual(new Set([ino]));
    const gone = once(python, 'close');
    python.stdin.end();
    await gone;
    expect((await keeper.status()).fds).toBe(299);
  });

  it('serves a number of clients, and new ones when those have gone', async () => {
    const keeper = await startKeeper();
    const [served] = await said(keeper, 'crowd');
    expect(served).toBe(64);
    expect((await keeper.status()).pid).toBe(keeper.pid);
  });

  it('becomes a new program, and holds on to everything; a client does not notice', async () => {
    const keeper = await startKeeper();
    const client = await keeper.client();
    const { reader, writer } = await openPipe();
    await client.store('pipe', writer, { dropWhenDead: false });
    closeSync(writer);
    const inodes: Record<string, number> = { pipe: fstatSync(reader).ino };
    const before = await keeper.openFiles();
    const times = rounds(100, 10, 0.1);
    for (let round = 1; round <= times; round += 1) {
      const { fd, ino } = openFile();
      await client.store(`file ${round}`, fd);
      inodes[`file ${round}`] = ino;
      process.kill(keeper.pid, 'SIGUSR2');
      // At the same time: either the old program answers or the new one.
      await client.store('at the same time', fd);
      inodes['at the same time'] = ino;
      await keeper.becomes(({ executions }) => executions === round);
      expect(await kept(keeper)).toEqual(inodes);
    }
    expect(await keeper.status()).toMatchObject({ pid: keeper.pid, fds: times + 2 });
    expect(await keeper.openFiles()).toBe(before + times + 1);
    // And it remembers which are not to be looked at.
    closeSync(reader);
    expect(await kept(keeper)).toHaveProperty('pipe');
    await client.remove('pipe');
    expect(keeper.log).not.toContain('is lost');
  });

  it('stays what it is when the new program is none', async () => {
    const dir = tempDir();
    const own = join(dir, 'peel-keeper');
    copyFileSync(program(), own);
    const keeper = await startKeeper({ program: own });
    const { fd, ino } = openFile();
    await (await keeper.client()).store('file', fd);
    const { file } = await keeper.status();
    const short = join(dir, 'short');
    copyFileSync(own, short);
    truncateSync(short, 20_000);
    const plain = join(dir, 'plain');
    copyFileSync(own, plain);
    chmodSync(plain, 0o644);
    const { socket } = keeper;
    for (const path of [join(dir, 'none'), '/bin/true', '/bin/false', short, plain, dir])
      await expect(executeKeeper({ socket, path }), path).rejects.toMatchObject({ code: 'ERR_KEEPER_REFUSED' });
    // By signal, its own path, where nothing is by now.
    renameSync(own, join(dir, 'moved'));
    process.kill(keeper.pid, 'SIGUSR2');
    await keeper.becomes(() => keeper.log.includes('peel-keeper is not there'));
    expect(await keeper.status()).toMatchObject({ pid: keeper.pid, executions: 0, file });
    expect(await kept(keeper)).toEqual({ file: ino });
    // And what is put there after all.
    copyFileSync(program(), own);
    expect(await executeKeeper({ socket })).toBe(true);
    const { dev, ino: inode } = statSync(own);
    expect(await keeper.becomes(({ executions }) => executions === 1)).toMatchObject({ file: `${dev}:${inode}` });
    expect(await kept(keeper)).toEqual({ file: ino });
  });

  it('is one per socket, and begins anew where one was killed', async () => {
    const first = await startKeeper();
    const dir = join(first.socket, '..');
    const second = KeeperProcess.begin({ program: program(), dir });
    await once(second.child, 'close');
    expect([second.child.exitCode, second.log]).toEqual([1, expect.stringContaining('another keeper serves')]);
    expect((await first.status()).pid).toBe(first.pid);
    await first.end('SIGKILL');
    expect(await FdKeeper.connect({ socket: first.socket })).toBeUndefined();
    const third = await startKeeper({ dir });
    expect((await third.status()).fds).toBe(0);
    expect(await third.end()).toBe(0);
    expect(existsSync(third.socket)).toBe(false);
    expect(third.log).not.toMatch(/Sanitizer|runtime error/);
  });

  it.skipIf(kind !== 'as it is built')('is small, and has no rights', async () => {
    const keeper = await startKeeper();
    const { fd } = openFile();
    const client = await keeper.client();
    for (let i = 0; i < 1000; i += 1) await client.store(`fd ${i}`, fd);
    expect(parseInt(keeper.fact('VmRSS'), 10)).toBeLessThan(6 << 10);
    expect(keeper.fact('Threads')).toBe('1');
    for (const set of ['CapPrm', 'CapEff', 'CapInh']) expect([set, BigInt(`0x${keeper.fact(set)}`)]).toEqual([set, 0n]);
    expect(statSync(keeper.socket).mode & 0o777).toBe(0o600);
  });

  it.skipIf(!isRoot || kind !== 'as it is built')(
    'is for its own user and root, and cannot be looked into',
    async () => {
      const dir = tempDir();
      chmodSync(dir, 0o711);
      const keeper = await startKeeper({ dir });
      chmodSync(keeper.socket, 0o666);
      expect(await said(keeper, 'other')).toEqual([expect.stringMatching(/^$|Error$/)]);
      expect((await keeper.status()).pid).toBe(keeper.pid);
      chmodSync(dir, 0o777);
      const copy = join(dir, 'peel-keeper');
      copyFileSync(program(), copy);
      const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
      const place = join(dir, 'nobody');
      await runOk('install', ['-d', '-o', '65534', place]);
      const theirs = await startKeeper({ program: copy, dir: place, through: nobody });
      // What belongs to root in /proc shows the process's memory to nobody else.
      expect([theirs.fact('Uid').split('\t')[0], statSync(`/proc/${theirs.pid}/mem`).uid]).toEqual(['65534', 0]);
      expect(await run('setpriv', [...nobody.slice(1), 'cat', `/proc/${theirs.pid}/environ`])).toMatchObject({
        code: 1,
      });
    },
  );
});

describe('a client', () => {
  it('finds no keeper where none is', async () => {
    expect(await FdKeeper.connect({ socket: join(tempDir(), 'none') })).toBeUndefined();
  });

  it('gives everything again to a keeper that is started anew', async () => {
    const dir = tempDir();
    const { reader, writer } = await openPipe();
    const { fd } = openFile();
    const { ino } = fstatSync(writer);
    const inodes = { looked: ino, not: ino };
    let keeper = await KeeperProcess.start({ dir });
    const giver = await keeper.client();
    await giver.store('looked', fd, { dropWhenDead: false });
    await giver.store('looked', writer);
    await giver.store('not', writer, { dropWhenDead: false });
    await giver.store('removed', fd);
    await giver.remove('removed');
    closeSync(writer);
    // Also one that has got everything from the keeper.
    for (const client of [giver, await keeper.client()]) {
      const returned = new KeeperReturn({ socket: keeper.socket, fds: client, log: silentLog() });
      for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
        await keeper.end(signal);
        keeper = await KeeperProcess.start({ dir });
        await keeper.becomes(({ fds }) => fds === 2);
        expect(await kept(keeper)).toEqual(inodes);
      }
      await returned.close();
    }
    giver.close();
    closeSync(reader);
    expect(Object.keys(await kept(keeper))).toEqual(['not']);
  });

  it('gives up when it is told to, or when the keeper does not answer', async () => {
    const keeper = await KeeperProcess.start();
    const client = await keeper.client();
    process.kill(keeper.pid, 'SIGSTOP');
    const abort = new AbortController();
    const { fd } = openFile();
    const waiting = client.store('file', fd, { signal: abort.signal });
    setTimeout(() => abort.abort(new Error('enough')), 50);
    await expect(waiting).rejects.toThrow('enough');
    const connection = FdConnection.open(keeper.socket);
    await expect(connection.exchange('PEEL=status', { timeoutMs: 50 })).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    connection.close();
    process.kill(keeper.pid, 'SIGCONT');
    await client.store('file', fd);
  });

  it('refuses names that the keeper would refuse', async () => {
    const client = await (await KeeperProcess.start()).client();
    for (const name of ['', 'a:b', 'a\nb', 'ä', 'x'.repeat(256)])
      await expect(client.store(name, 0)).rejects.toThrow(TypeError);
  });
});
