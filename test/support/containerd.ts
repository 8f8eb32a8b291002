// A containerd of one test: everything it has lies in one folder, and it is gone with all it started.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, openSync, closeSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { mountsBelow } from './leftovers.ts';
import { run, runOk, stop } from './run.ts';

/** Not needed to pull and push, or not to be had everywhere. */
const disabled = [
  'io.containerd.grpc.v1.cri',
  'io.containerd.internal.v1.opt',
  'io.containerd.internal.v1.restart',
  'io.containerd.internal.v1.tracing',
  'io.containerd.monitor.v1.cgroups',
  'io.containerd.runtime.v1.linux',
  'io.containerd.runtime.v2.task',
  ...['aufs', 'btrfs', 'devmapper', 'overlayfs', 'zfs'].map((name) => `io.containerd.snapshotter.v1.${name}`),
];

/** A snapshotter in another process. */
export interface ProxySnapshotter {
  readonly name: string;
  readonly socket: string;
  /** Where it keeps its data. */
  readonly root: string;
}

export interface ContainerdOptions {
  readonly proxy?: ProxySnapshotter | undefined;
}

export class Containerd {
  readonly dir: string;
  readonly #child: ChildProcess;

  private constructor(dir: string, child: ChildProcess) {
    this.dir = dir;
    this.#child = child;
  }

  static async start({ proxy }: ContainerdOptions = {}): Promise<Containerd> {
    const dir = mkdtempSync(path.join(tmpdir(), 'peel-ctrd-'));
    const config = [
      'version = 2',
      `root = "${dir}/root"`,
      `state = "${dir}/state"`,
      `disabled_plugins = ${JSON.stringify(disabled)}`,
      `grpc = { address = "${dir}/socket" }`,
      `ttrpc = { address = "${dir}/ttrpc" }`,
    ];
    if (proxy !== undefined) {
      const { name, socket, root } = proxy;
      config.push(
        `[proxy_plugins.${name}]`,
        'type = "snapshot"',
        `address = "${socket}"`,
        `exports = { root = "${root}" }`,
      );
    }
    writeFileSync(path.join(dir, 'config.toml'), `${config.join('\n')}\n`);
    const log = openSync(path.join(dir, 'log'), 'w');
    const child = spawn('containerd', ['--config', path.join(dir, 'config.toml')], { stdio: ['ignore', log, log] });
    closeSync(log);
    const started = new Containerd(dir, child);
    for (let tries = 0; tries < 200 && child.exitCode === null; tries += 1) {
      if ((await started.#run(['version'])).code === 0) return started;
      await delay(50);
    }
    const text = readFileSync(path.join(dir, 'log'), 'utf8');
    await started.close();
    throw new Error(`containerd did not start:\n${text}`);
  }

  get socket(): string {
    return path.join(this.dir, 'socket');
  }

  /** Output of `ctr` in the namespace `default`. */
  async ctr(...args: readonly string[]): Promise<string> {
    return await this.ctrIn('default', ...args);
  }

  async ctrIn(namespace: string, ...args: readonly string[]): Promise<string> {
    return await runOk('ctr', ['--address', this.socket, '--namespace', namespace, ...args]);
  }

  /** Content by digest, as it lies in the store. */
  async content(digest: string): Promise<Buffer> {
    return (await this.#run(['content', 'get', digest])).stdout;
  }

  /** Mount points that are left; none, unless something went wrong. */
  async close(): Promise<readonly string[]> {
    await stop(this.#child);
    const mounts = mountsBelow(this.dir);
    for (const mount of mounts) await run('umount', ['-l', mount]);
    rmSync(this.dir, { recursive: true, force: true });
    return mounts;
  }

  #run(args: readonly string[]) {
    return run('ctr', ['--address', `${this.dir}/socket`, ...args]);
  }
}
