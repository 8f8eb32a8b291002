// Containers by `ctr`, with everything of runc and of the control groups under names of the test's containerd.
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
  const args = ['run', '--rm', ...placeOf(containerd, id), image, id, ...command];
  return await containerd.tryCtr(namespace, args, { timeout });
}

export async function startContainer(
  containerd: Containerd,
  image: string,
  command: readonly string[],
  { namespace = 'default', timeout }: ContainerOptions,
): Promise<Container> {
  const id = newId();
  // A pipe of ours would stay open for as long as the container lives.
  const log = ['--log-uri', `file://${containerd.dir}/${id}.out`];
  await containerd.ctrIn(namespace, 'run', '--detach', ...log, ...placeOf(containerd, id), image, id, ...command);
  let [calls, removed] = [0, false];
  return {
    id,
    exec: (...args) =>
      containerd.tryCtr(namespace, ['task', 'exec', '--exec-id', `e${(calls += 1)}`, id, ...args], { timeout }),
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
