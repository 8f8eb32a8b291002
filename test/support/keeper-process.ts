// `peel-keeper` of one test, as a process of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { FdKeeper } from '../../src/daemon/fd-keeper.ts';
import { keeperStatus } from '../../src/daemon/keeper-status.ts';
import type { KeeperStatus } from '../../src/daemon/keeper-status.ts';
import { keeperProgram } from '../../src/native/keeper-program.ts';
import { keeperBecomes } from './keeper-becomes.ts';
import { runOk } from './run.ts';
import { tempDir } from './tmp.ts';

export interface KeeperSetting {
  /** Default: the one that was built with the addon. */
  readonly program?: string | undefined;
  /** What it starts as its daemon. */
  readonly command?: readonly string[] | undefined;
  /** In front of the program, e.g. one that lowers its limits. */
  readonly through?: readonly string[] | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Default: a folder of the test. */
  readonly dir?: string | undefined;
}

/** The same program with the address and undefined-behaviour sanitizers; built where it is not. */
export async function sanitizedKeeper(): Promise<string> {
  const native = new URL('../../native', import.meta.url).pathname;
  return join(native, (await runOk('make', ['-s', 'keeper'], { cwd: native, timeout: 300_000 })).trim());
}

export class KeeperProcess {
  readonly child: ChildProcess;
  readonly socket: string;
  #log = '';

  private constructor(child: ChildProcess, socket: string) {
    this.child = child;
    this.socket = socket;
    child.stderr?.on('data', (chunk: Buffer) => (this.#log += chunk.toString()));
  }

  /** Resolves when it answers; killed when the test ends, and its daemon with it. */
  static async start(setting: KeeperSetting = {}): Promise<KeeperProcess> {
    const keeper = KeeperProcess.begin(setting);
    for (let tries = 0; ; tries += 1) {
      if ((await keeperStatus({ socket: keeper.socket })) !== undefined) return keeper;
      if (tries > 500 || keeper.child.exitCode !== null) throw new Error(`the keeper does not answer: ${keeper.log}`);
      await delay(10);
    }
  }

  /** Does not wait for it. */
  static begin({
    program = keeperProgram(),
    command = [],
    through = [],
    env,
    dir = tempDir(),
  }: KeeperSetting = {}): KeeperProcess {
    const socket = join(dir, 'keeper.sock');
    const daemon = command.length === 0 ? [] : ['--', ...command];
    const [first = '', ...rest] = [...through, program, '--socket', socket, ...daemon];
    const child = spawn(first, rest, {
      stdio: ['ignore', 'ignore', 'pipe'],
      // Its leaks at the end are none of fds, and what looks for them does not work in a process that cannot be traced.
      env: { ...process.env, ASAN_OPTIONS: 'detect_leaks=0', UBSAN_OPTIONS: 'print_stacktrace=1', ...env },
    });
    const keeper = new KeeperProcess(child, socket);
    onTestFinished(() => keeper.kill());
    return keeper;
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get log(): string {
    return this.#log;
  }

  async client(): Promise<FdKeeper> {
    const client = await FdKeeper.connect({ socket: this.socket });
    if (client === undefined) throw new Error('the keeper does not answer');
    onTestFinished(() => client.close());
    return client;
  }

  async status(): Promise<KeeperStatus> {
    const status = await keeperStatus({ socket: this.socket });
    if (status === undefined) throw new Error('the keeper does not answer');
    return status;
  }

  /** The status, once it is as `wanted` says. */
  async becomes(wanted: (status: KeeperStatus) => boolean): Promise<KeeperStatus> {
    return await keeperBecomes(this.socket, wanted).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${this.log}`);
    });
  }

  /** How many files it has open, once it has seen that earlier clients are gone. */
  async openFiles(): Promise<number> {
    const count = () => readdirSync(`/proc/${this.pid}/fd`).length;
    for (let [last, same] = [count(), 0]; ; ) {
      await delay(15);
      const now = count();
      same = now === last ? same + 1 : 0;
      last = now;
      if (same === 3) return now;
    }
  }

  /** Of /proc/PID/status. */
  fact(name: string): string {
    const lines = readFileSync(`/proc/${this.pid}/status`, 'utf8').split('\n');
    return (
      lines
        .find((line) => line.startsWith(`${name}:`))
        ?.slice(name.length + 1)
        .trim() ?? ''
    );
  }

  /** Resolves with its exit code, or the signal that ended it, when all that it wrote is in the log. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | NodeJS.Signals | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const gone = once(this.child, 'close');
      this.child.kill(signal);
      await gone;
    }
    return this.child.exitCode ?? this.child.signalCode;
  }

  async kill(): Promise<void> {
    const daemon = await keeperStatus({ socket: this.socket, timeoutMs: 1000 }).catch(() => undefined);
    await this.end('SIGKILL');
    if (daemon?.daemon === undefined || daemon.daemon.pid === 0) return;
    try {
      process.kill(-daemon.daemon.pid, 'SIGKILL');
    } catch {
      // It has ended.
    }
  }
}
