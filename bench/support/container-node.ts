// A node as it runs containers: containerd and the peel daemon beside it, both with everything below one folder, and nothing cached.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cli, output, shell, workDir } from './machine.ts';
import type { ShapedRegistry } from './shaped-registry.ts';

const home = `${workDir}/node`;
const socket = `${home}/containerd.sock`;
const snapshots = `${home}/run/snapshotter.sock`;
const metrics = `${home}/run/metrics.sock`;

const containerdConfig = `version = 2
root = "${home}/containerd"
state = "${home}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "${socket}"
[ttrpc]
address = "${home}/ttrpc.sock"
[proxy_plugins.peel]
type = "snapshot"
address = "${snapshots}"
[proxy_plugins.peel.exports]
root = "${home}/peel"
`;

export type SnapshotterMode = 'lazy' | 'eager' | 'lazy-else-eager' | 'defer';

export class ContainerNode {
  readonly snapshotterSocket = snapshots;
  readonly #processes: ChildProcess[];
  readonly #registry: ShapedRegistry;
  #containers = 0;

  private constructor(registry: ShapedRegistry, processes: ChildProcess[]) {
    this.#registry = registry;
    this.#processes = processes;
  }

  /** `settings`: further tables of the daemon's configuration. */
  static async start(registry: ShapedRegistry, mode: SnapshotterMode = 'lazy', settings = ''): Promise<ContainerNode> {
    await clear();
    for (const dir of ['peel', 'run', 'containerd', 'state'])
      mkdirSync(`${home}/${dir}`, { recursive: true, mode: 0o700 });
    writeFileSync(`${home}/containerd.toml`, containerdConfig);
    writeFileSync(
      `${home}/peel.toml`,
      `root = "${home}/peel"\nrun_dir = "${home}/run"\n[metrics]\naddress = "unix:${metrics}"\n[snapshotter]\nmode = "${mode}"\n[registry]\ncerts_dirs = ["${registry.certsDir}"]\n${settings}`,
    );
    const daemon = start('peel', process.execPath, [cli, 'daemon', '--config', `${home}/peel.toml`]);
    await waitFor(`test -S ${snapshots}`, 'peel');
    const containerd = start('containerd', 'containerd', ['--config', `${home}/containerd.toml`]);
    await waitFor(`ctr --address ${socket} version >/dev/null`, 'containerd');
    return new ContainerNode(registry, [containerd, daemon]);
  }

  /** Its file descriptors outlive the daemon that is started next. */
  async keep(): Promise<void> {
    this.#processes.push(
      start('keeper', process.execPath, [cli, 'keeper', '--alone', '--config', `${home}/peel.toml`]),
    );
    await waitFor(`test -S ${home}/run/keeper.sock`, 'keeper');
  }

  /** Kills the daemon and starts another. Resolves with what it logs of the layers that it serves again: ms since its process began. */
  async replaceDaemon(): Promise<{ readonly layers: number; readonly processMs: number } | undefined> {
    const before = readFileSync(`${home}/peel.log`, 'utf8').length;
    const said = () => readFileSync(`${home}/peel.log`, 'utf8').slice(before);
    const [, old] = this.#processes;
    const ended = old === undefined ? undefined : once(old, 'exit');
    old?.kill('SIGKILL');
    await ended;
    this.#processes[1] = start('peel', process.execPath, [cli, 'daemon', '--config', `${home}/peel.toml`]);
    while (!said().includes('"daemon serves"')) await delay(20);
    const line = said()
      .split('\n')
      .find((text) => text.includes('layers are served again'));
    return line === undefined ? undefined : (JSON.parse(line) as { layers: number; processMs: number });
  }

  /** Where a layer that is served is mounted. */
  layerDir(slot: number): string {
    return `${home}/peel/l/${slot.toString(36)}`;
  }

  get daemonPid(): number {
    return this.#processes[1]?.pid ?? 0;
  }

  get containerdPid(): number {
    return this.#processes[0]?.pid ?? 0;
  }

  /** How many layers peel has left to containerd, by the reason. */
  async deferrals(): Promise<Readonly<Record<string, number>>> {
    const text = await output(process.execPath, [cli, '--json', 'status'], { PEEL_RUN_DIR: `${home}/run` });
    const status = JSON.parse(text) as { snapshotter?: { deferrals: Record<string, number> } };
    if (status.snapshotter === undefined) throw new Error(`the daemon says nothing of snapshots: ${text}`);
    return status.snapshotter.deferrals;
  }

  /** What the daemon counts: the sum of a metric over those of its labels that contain `label`; undefined where it has no such metric. */
  async counted(name: string, label = ''): Promise<number | undefined> {
    const text = await output('curl', ['-sf', '--unix-socket', metrics, 'http://daemon/metrics']);
    const values = text.split('\n').flatMap((line) => {
      const [, counted, labels = '', value] = /^(\w+)(\{.*\})? (\S+)$/.exec(line) ?? [];
      return counted === name && labels.includes(label) ? [Number(value)] : [];
    });
    return values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0);
  }

  /** As people do it: containerd's own pull, or the one that lets a lazy snapshotter do its work. */
  async pull(snapshotter: 'overlayfs' | 'peel', image: string): Promise<void> {
    if (snapshotter === 'overlayfs') {
      await this.ctr('image', 'pull', '--hosts-dir', this.#registry.certsDir, '--snapshotter', snapshotter, image);
      return;
    }
    await output(process.execPath, [cli, 'pull', '--address', socket, '--namespace', 'default', image], {
      PEEL_CERTS_DIR: this.#registry.certsDir,
      PEEL_ROOT: `${home}/peel`,
      PEEL_RUN_DIR: `${home}/run`,
    });
  }

  /** Output of a container that runs the image's command. */
  async run(snapshotter: string, image: string, ...command: readonly string[]): Promise<string> {
    const id = `bench-${(this.#containers += 1)}`;
    return await this.ctr('run', '--rm', '--snapshotter', snapshotter, image, id, ...command);
  }

  ctr(...args: readonly string[]): Promise<string> {
    return output('ctr', ['--address', socket, ...args]);
  }

  async close(): Promise<void> {
    for (const child of this.#processes) {
      const ended = once(child, 'exit');
      if (child.exitCode === null && child.kill()) await ended;
    }
    await clear();
  }
}

function start(name: string, command: string, args: readonly string[]): ChildProcess {
  const log = openSync(`${home}/${name}.log`, 'a');
  try {
    return spawn(command, args, { stdio: ['ignore', log, log] });
  } finally {
    closeSync(log);
  }
}

async function waitFor(test: string, name: string): Promise<void> {
  try {
    await shell(`for i in $(seq 200); do ${test} 2>/dev/null && exit 0; sleep 0.05; done; exit 1`);
  } catch {
    throw new Error(`${name} did not start:\n${readFileSync(`${home}/${name}.log`, 'utf8').slice(-4000)}`);
  }
}

/** Mounts first, the deepest before those that it lies in. */
async function clear(): Promise<void> {
  await shell(`awk '$5 ~ "^${home}/" { print $5 }' /proc/self/mountinfo | tac | xargs -r -n 1 umount -l`);
  rmSync(home, { recursive: true, force: true });
}
