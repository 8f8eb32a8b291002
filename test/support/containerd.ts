// A containerd of one test: everything it has lies in one folder, and it is gone with all it started.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, openSync, closeSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Container, type ContainerOptions, runContainer, startContainer } from './container.ts';
import { removeContainers } from './container-leftovers.ts';
import { CriClient } from './cri-client.ts';
import { mountsBelow } from './leftovers.ts';
import { nodePrefix } from './peel-node.ts';
import { type RunOptions, type RunResult, run, runOk, stop } from './run.ts';

/** A snapshotter in another process. */
export interface ProxySnapshotter {
  readonly name: string;
  readonly socket: string;
  /** Where it keeps its data: what CRI says of the image file system. */
  readonly root: string;
}

export interface ContainerdOptions {
  /** Runs containers and speaks CRI; without it, only what pulling and pushing needs is there. */
  readonly containers?: boolean | undefined;
  /** The snapshotter of CRI and of containers, in place of `overlayfs`. */
  readonly proxy?: ProxySnapshotter | undefined;
}

/** Not needed, or not to be had everywhere. */
const disabled = [
  'io.containerd.internal.v1.opt',
  'io.containerd.internal.v1.restart',
  'io.containerd.internal.v1.tracing',
  'io.containerd.monitor.v1.cgroups',
  ...['aufs', 'btrfs', 'devmapper', 'zfs'].map((name) => `io.containerd.snapshotter.v1.${name}`),
];
const disabledWithoutContainers = [
  'io.containerd.grpc.v1.cri',
  'io.containerd.runtime.v1.linux',
  'io.containerd.runtime.v2.task',
  'io.containerd.snapshotter.v1.overlayfs',
];

export class Containerd {
  readonly dir = mkdtempSync(path.join(tmpdir(), `${nodePrefix()}ctrd-`));
  readonly snapshotter: string;
  #child: ChildProcess | undefined;
  #cri: CriClient | undefined;

  private constructor(options: ContainerdOptions) {
    this.snapshotter = options.proxy?.name ?? 'overlayfs';
  }

  static async start(options: ContainerdOptions = {}): Promise<Containerd> {
    const containerd = new Containerd(options);
    const { dir } = containerd;
    mkdirSync(path.join(dir, 'certs.d'));
    writeFileSync(path.join(dir, 'config.toml'), configText(dir, options));
    try {
      await containerd.start();
    } catch (error) {
      await containerd.close();
      throw error;
    }
    return containerd;
  }

  get socket(): string {
    return path.join(this.dir, 'socket');
  }

  get log(): string {
    return readFileSync(path.join(this.dir, 'log'), 'utf8');
  }

  /** Again, after `stop`, over the same folders. */
  async start(): Promise<void> {
    const log = openSync(path.join(this.dir, 'log'), 'a');
    const child = spawn('containerd', ['--config', path.join(this.dir, 'config.toml')], {
      stdio: ['ignore', log, log],
      // For the search of what a run left behind; shims inherit it.
      env: { ...process.env, PEEL_ROOT: this.dir },
    });
    closeSync(log);
    this.#child = child;
    for (let tries = 0; tries < 400 && child.exitCode === null; tries += 1) {
      // Asked only when it may answer: each question is a process.
      if (existsSync(this.socket) && (await this.#run(['version'])).code === 0) return;
      await delay(25);
    }
    throw new Error(`containerd did not start:\n${this.log}`);
  }

  /** Containers and their shims go on. */
  async stop(): Promise<void> {
    this.#cri?.close();
    this.#cri = undefined;
    if (this.#child !== undefined) await stop(this.#child);
  }

  /** The same without a chance to put anything in order. */
  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.stop();
    rmSync(this.socket, { force: true });
  }

  /** Output of `ctr` in the namespace `default`. */
  async ctr(...args: readonly string[]): Promise<string> {
    return await this.ctrIn('default', ...args);
  }

  async ctrIn(namespace: string, ...args: readonly string[]): Promise<string> {
    return await runOk('ctr', ['--address', this.socket, '--namespace', namespace, ...args]);
  }

  /** However it ends. */
  async tryCtr(namespace: string, args: readonly string[], options?: RunOptions): Promise<RunResult> {
    return await run('ctr', ['--address', this.socket, '--namespace', namespace, ...args], options);
  }

  get cri(): CriClient {
    return (this.#cri ??= new CriClient(this.socket));
  }

  /** Runs a command in a new container to its end; the container is gone then. */
  async run(image: string, command: readonly string[] = [], options: ContainerOptions = {}): Promise<RunResult> {
    return await runContainer(this, image, command, options);
  }

  /** A container that goes on. */
  async container(image: string, command: readonly string[], options: ContainerOptions = {}): Promise<Container> {
    return await startContainer(this, image, command, options);
  }

  /** Content by digest, as it lies in the store. */
  async content(digest: string): Promise<Buffer> {
    return (await this.#run(['content', 'get', digest])).stdout;
  }

  /** How the registry at `host` is reached: the lines of its hosts.toml. */
  hosts(host: string, lines: readonly string[]): void {
    const dir = path.join(this.dir, 'certs.d', host);
    mkdirSync(dir, { recursive: true });
    writeFileSync(path.join(dir, 'hosts.toml'), `${lines.join('\n')}\n`);
  }

  /** Names of the committed and active snapshots of a namespace. */
  async snapshots(namespace = 'default'): Promise<string[]> {
    const text = await this.ctrIn(namespace, 'snapshots', '--snapshotter', this.snapshotter, 'ls');
    const names = text.split('\n').slice(1);
    return names.map((line) => line.split(/\s+/)[0] ?? '').filter((name) => name !== '');
  }

  /** Ends containers, then containerd. Mount points that are left; none, unless something went wrong. */
  async close(): Promise<readonly string[]> {
    await this.stop();
    removeContainers(this.dir);
    const mounts = mountsBelow(this.dir);
    for (const mount of mounts) await run('umount', ['-l', mount]);
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    return mounts;
  }

  #run(args: readonly string[]) {
    return this.tryCtr('default', args);
  }
}

function configText(dir: string, { containers, proxy }: ContainerdOptions): string {
  const without = containers === true ? disabled : [...disabled, ...disabledWithoutContainers];
  const lines = [
    'version = 2',
    `root = "${dir}/root"`,
    `state = "${dir}/state"`,
    `disabled_plugins = ${JSON.stringify(without)}`,
    `grpc = { address = "${dir}/socket" }`,
    `ttrpc = { address = "${dir}/ttrpc" }`,
    'debug = { level = "warn" }',
    '[plugins."io.containerd.grpc.v1.cri"]',
    'disable_tcp_service = true',
    '[plugins."io.containerd.grpc.v1.cri".cni]',
    `conf_dir = "${dir}/cni"`,
    '[plugins."io.containerd.grpc.v1.cri".registry]',
    `config_path = "${dir}/certs.d"`,
    '[plugins."io.containerd.grpc.v1.cri".containerd]',
    `snapshotter = "${proxy?.name ?? 'overlayfs'}"`,
    'disable_snapshot_annotations = false',
  ];
  if (proxy !== undefined) {
    lines.push(
      `[proxy_plugins.${proxy.name}]`,
      'type = "snapshot"',
      `address = "${proxy.socket}"`,
      `exports = { root = "${proxy.root}" }`,
    );
  }
  return `${lines.join('\n')}\n`;
}
