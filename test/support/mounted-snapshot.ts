// What a container would see of a snapshot. Mounts live in a mount namespace of the program that looks, and end with it.
import { mkdtempSync } from 'node:fs';
import path from 'node:path';
import { run } from './run.ts';
import type { RunResult } from './run.ts';
import { tempDir } from './tmp.ts';

interface Mount {
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** Runs a shell script in the root of the mounted snapshot. */
export async function inSnapshot(mounts: readonly Mount[], script: string): Promise<RunResult> {
  const [mount] = mounts;
  if (mount === undefined || mounts.length !== 1) throw new Error(`one mount is expected: ${JSON.stringify(mounts)}`);
  const base = tempDir('peel-look-');
  const point = mkdtempSync(path.join(base, 'm'));
  const { folder, options } = compacted(mount.options);
  const type = mount.type === 'bind' ? [] : ['-t', mount.type];
  const program = 'cd "$1" && p="$2" && s="$3" && shift 3 && mount "$@" && cd "$p" && eval "$s"';
  const args = [...type, '-o', options.join(','), mount.source, point];
  return await run('unshare', ['-m', 'sh', '-euc', program, 'sh', folder, point, script, ...args]);
}

/** As containerd does: names from the folder that all lower directories are in, when they are too long otherwise. */
function compacted(options: readonly string[]): { folder: string; options: readonly string[] } {
  const lower = options.find((option) => option.startsWith('lowerdir='))?.slice('lowerdir='.length);
  if (lower === undefined || options.join(',').length < 4096 - 512) return { folder: '/', options };
  const dirs = lower.split(':');
  let folder = path.dirname(dirs[0] ?? '/');
  while (!dirs.every((dir) => dir.startsWith(`${folder}/`))) folder = path.dirname(folder);
  const short = dirs.map((dir) => path.relative(folder, dir)).join(':');
  return { folder, options: options.map((option) => (option.startsWith('lowerdir=') ? `lowerdir=${short}` : option)) };
}
