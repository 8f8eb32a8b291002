// Containers by `ctr`, with everything of runc and of the control groups under names of the test's containerd.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Containerd } from './containerd.ts';
import type { RunResult } from './run.ts';

export interface ContainerOptions {
  /** Default `default`. */
  readonly namespace?: string | undefined;
  /** Milliseconds until `ctr` is killed; default 60 000. */
  readonly timeout?: number | undefined;
}

export interface Container {
  readonly id: string;
  /** Of its first process, as the machine numbers it. */
  pid(): Promise<number>;
  /** Runs a command in it. */
  exec(...command: readonly string[]): Promise<RunResult>;
  /** Kills and removes it with its snapshot. Idempotent. */
  remove(): Promise<void>;
}

let containers = 0;

export async function runContainer(
  containerd: Containerd,
  image: string,
  command: readonly string[],
  { namespace = 'default', timeout }: ContainerOptions,
): Promise<RunResult> {
  const id = newId();
  return await logged(containerd, id, async (log) => {
    const args = ['run', '--rm', ...log, ...placeOf(containerd, id), image, id, ...command];
    return await containerd.tryCtr(namespace, args, { timeout });
  });
}

/**
 * With the output in a file: a pipe of ctr's may be closed before all is read of a command that ends at once, and one of ours would stay
 * open for as long as the container lives. What the command writes to stderr is in `out`, too.
 */
async function logged(
  containerd: Containerd,
  name: string,
  run: (log: readonly string[]) => Promise<RunResult>,
): Promise<RunResult> {
  const file = `${containerd.dir}/${name}.out`;
  const result = await run(['--log-uri', `file://${file}`]);
  return { ...result, out: await readFile(file, 'utf8').catch(() => '') };
}

export async function startContainer(
  containerd: Containerd,
  image: string,
  command: readonly string[],
  { namespace = 'default', timeout }: ContainerOptions,
): Promise<Container> {
  const id = newId();
  const log = ['--log-uri', `file://${containerd.dir}/${id}.out`];
  await containerd.ctrIn(namespace, 'run', '--detach', ...log, ...placeOf(containerd, id), image, id, ...command);
  let [calls, removed] = [0, false];
  return {
    id,
    pid: async () => {
      const tasks = await containerd.ctrIn(namespace, 'task', 'ls');
      const row = tasks.split('\n').map((line) => line.trim().split(/\s+/));
      return Number(row.find(([name]) => name === id)?.[1]);
    },
    exec: async (...args) => {
      const call = `e${(calls += 1)}`;
      return await logged(containerd, `${id}-${call}`, async (options) => {
        const exec = ['task', 'exec', ...options, '--exec-id', call, id, ...args];
        return await containerd.tryCtr(namespace, exec, { timeout });
      });
    },
    remove: async () => {
      if (removed) return;
      removed = true;
      await containerd.ctrIn(namespace, 'task', 'rm', '--force', id);
      await containerd.ctrIn(namespace, 'container', 'rm', id);
    },
  };
}

/** Default places are shared by every containerd of the machine. */
function placeOf(containerd: Containerd, id: string): string[] {
  const { dir, snapshotter } = containerd;
  const group = ['--cgroup', `/${path.basename(dir)}/${id}`];
  return ['--snapshotter', snapshotter, '--runc-root', path.join(dir, 'runc'), ...group];
}

function newId(): string {
  return `c${(containers += 1)}`;
}
