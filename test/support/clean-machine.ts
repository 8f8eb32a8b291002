// After all test files: nothing of them may still be mounted or running. Cleans up what it finds, then fails.
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mountsBelow, processesUsing } from './leftovers.ts';
import { nodePrefix } from './peel-node.ts';

/** Two runs on one machine must not take each other's mounts for leftovers; the forks inherit the variable. */
export function setup(): void {
  process.env['PEEL_TEST_RUN'] = String(process.pid);
}

export function teardown(): void {
  const ours = join(tmpdir(), nodePrefix());
  const mounts = mountsBelow(tmpdir()).filter((point) => point.startsWith(ours));
  const processes = processesUsing(ours);
  for (const point of mounts) spawnSync('umount', ['-l', point]);
  for (const pid of processes) process.kill(pid, 'SIGKILL');
  const found = [...mounts.map((point) => `mounted: ${point}`), ...processes.map((pid) => `running: ${pid}`)];
  if (found.length === 0) return;
  process.exitCode = 1;
  throw new Error(`tests left behind:\n${found.join('\n')}`);
}
