// `peel daemon` of one test: a process of the built code with state, sockets and configuration in one folder.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { StatusReport } from '../../src/daemon/status-report.ts';
import type { ProxySnapshotter } from './containerd.ts';
import { type SeenStatus, seenStatus } from './daemon-status.ts';
import { LoneKeeper } from './lone-keeper.ts';
import { mountsBelow, processesUsing } from './leftovers.ts';
import { nodePrefix } from './peel-node.ts';
import { peelMain, type RunOptions, type RunResult } from './run.ts';
import { sharedPeel } from './shared-commands.ts';

export interface PeelDaemonOptions {
  /** Lines of TOML behind `root` and `run_dir`. */
  readonly config?: readonly string[] | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
}

export class PeelDaemon {
  readonly dir = mkdtempSync(path.join(tmpdir(), `${nodePrefix()}d-`));
  readonly root = path.join(this.dir, 'root');
  readonly runDir = path.join(this.dir, 'run');
  readonly socket = path.join(this.runDir, 'snapshotter.sock');
  readonly configFile = path.join(this.dir, 'config.toml');
  readonly env: Readonly<Record<string, string>>;
  #child: ChildProcess | undefined;
  #keeper: LoneKeeper | undefined;

  constructor({ config = [], env = {} }: PeelDaemonOptions = {}) {
    // The user's registries and passwords are none of the test's.
    const own = { DOCKER_CONFIG: path.join(this.dir, 'docker'), PEEL_ROOT: this.root, PEEL_RUN_DIR: this.runDir };
    this.env = { ...own, ...env };
    mkdirSync(path.join(this.dir, 'docker'));
    this.configure(config);
  }

  /** For the next start, or a reload. */
  configure(lines: readonly string[]): void {
    const own = [`root = "${this.root}"`, `run_dir = "${this.runDir}"`];
    const tables = ['[registry]', `certs_dirs = ["${this.certsDir}"]`];
    // What is fetched only because there is time for it would hide what is fetched when it is read.
    const isLazyTest = lines.includes('[fill]');
    const fill = isLazyTest ? [] : ['[fill]', 'enabled = false'];
    const readAhead = isLazyTest || lines.includes('[read_ahead]') ? [] : ['[read_ahead]', 'enabled = false'];
    const quiet = [...fill, ...readAhead];
    writeFileSync(this.configFile, `${[...own, ...tables, ...quiet, ...lines].join('\n')}\n`);
  }

  get certsDir(): string {
    return path.join(this.dir, 'certs.d');
  }

  /** Of what `start` started. */
  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Everything that it has written, over all its lives. */
  get log(): string {
    const file = path.join(this.dir, 'log');
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  }

  get proxy(): ProxySnapshotter {
    return { name: 'peel', socket: this.socket, root: this.root };
  }

  /** A process that keeps file descriptors, until `close`. Once more, after it has ended. */
  async startKeeper(): Promise<LoneKeeper> {
    this.#keeper = await LoneKeeper.start(this.runDir, this.configFile, this.env);
    return this.#keeper;
  }

  async stopKeeper(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#keeper?.end(signal);
  }

  /** Where it is asked what it keeps. */
  get keeperSocket(): string {
    return path.join(this.runDir, 'keeper.sock');
  }

  /**
   * Resolves when it serves. Once more, after it has ended, over the same state. As `keeper` it is the parent of the process that serves,
   * and stopped with it.
   */
  async start(verb: 'daemon' | 'keeper' = 'daemon'): Promise<void> {
    const log = openSync(path.join(this.dir, 'log'), 'a');
    const args = [peelMain, verb, '--config', this.configFile];
    const child = spawn(process.execPath, args, { stdio: ['ignore', log, log], env: { ...process.env, ...this.env } });
    closeSync(log);
    this.#child = child;
    for (let tries = 0; tries < 300 && child.exitCode === null && child.signalCode === null; tries += 1) {
      // A socket that a killed daemon left is no sign of life.
      if (existsSync(this.socket) && (await this.peel(['status', '--json'])).code === 0) return;
      await delay(50);
    }
    throw new Error(`peel daemon did not start:\n${this.log}`);
  }

  /** Resolves with the exit code, or with the signal that ended it. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | NodeJS.Signals | null> {
    const child = this.#child;
    if (child === undefined) return null;
    if (child.exitCode === null && child.signalCode === null) {
      const gone = new Promise((resolve) => child.once('close', resolve));
      child.kill(signal);
      const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await gone;
      clearTimeout(timer);
    }
    return child.signalCode ?? child.exitCode;
  }

  /** The process stands still; its sockets and mounts stay. */
  pause(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  async status(): Promise<SeenStatus> {
    return seenStatus(JSON.parse(await this.ok(['status', '--json'])) as StatusReport);
  }

  /** A command that uses this daemon. */
  async peel(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return await sharedPeel(args, { ...options, env: { ...this.env, ...options.env } });
  }

  /** stdout of a command that has to succeed. */
  async ok(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const { code, out, err } = await this.peel(args, options);
    if (code !== 0) throw new Error(`peel ${args.join(' ')}: exit ${code}\n${err}${out}`);
    return out;
  }

  /** Where layers are mounted now, by slot. */
  layerMounts(): string[] {
    return mountsBelow(path.join(this.root, 'l'));
  }

  /** Stops it and unmounts what it left, which it does on purpose: layers stay mounted for containers. */
  async close(): Promise<void> {
    this.resume();
    await this.stop();
    this.#keeper?.kill();
    for (const point of mountsBelow(this.dir)) spawnSync('umount', ['-l', point]);
    for (const pid of processesUsing(this.dir)) process.kill(pid, 'SIGKILL');
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}
