// Ends what containers leave when their containerd is gone: processes, shims, control groups.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, rmdirSync } from 'node:fs';
import path from 'node:path';

/** `dir`: of the containerd that started them, which has ended. Never throws. */
export function removeContainers(dir: string): void {
  const runc = path.join(dir, 'runc');
  for (const namespace of entries(runc)) {
    const root = path.join(runc, namespace);
    for (const id of entries(root)) spawnSync('runc', ['--root', root, 'delete', '--force', id]);
  }
  for (const pid of shimsOf(dir)) kill(pid);
  for (const controller of entries('/sys/fs/cgroup')) {
    const group = path.join('/sys/fs/cgroup', controller, path.basename(dir));
    if (existsSync(group)) removeGroup(group);
  }
}

function shimsOf(dir: string): number[] {
  return entries('/proc')
    .map(Number)
    .filter(
      (pid) => pid > 0 && commandOf(pid).some((word, i, all) => word === '-address' && all[i + 1] === `${dir}/socket`),
    );
}

function commandOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
  } catch {
    return []; // ended meanwhile
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // ended by itself
  }
}

/** Deepest first; a group whose last process is just ending stays and is told by nobody. */
function removeGroup(group: string): void {
  for (const entry of readdirSync(group, { withFileTypes: true })) {
    if (entry.isDirectory()) removeGroup(path.join(group, entry.name));
  }
  for (let tries = 0; tries < 50; tries += 1) {
    try {
      rmdirSync(group);
      return;
    } catch {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
    }
  }
}

function entries(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}
