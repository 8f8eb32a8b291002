// Compiled trees that nobody uses: they can be made again from what the node has, and take room until somebody needs it.
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileIdentity } from '../layer/file-identity.ts';
import type { State } from '../state/state.ts';
import { LayerTreeFiles, treesDir } from './layer-tree-files.ts';
import { readMountInfo } from './mountinfo.ts';

export interface TidyOptions {
  readonly root: string;
  readonly state: Pick<State, 'slots' | 'connections'>;
  /** Those that somebody looked for after that, ms since the epoch, stay. */
  readonly usedBefore: number;
  readonly signal?: AbortSignal | undefined;
}

const treeFile = /^([0-9a-f]{64})\.erofs$/;

/** Returns how many went. What shows a layer of containerd's, is mounted, or has to be there for whoever adopts a mount, stays. Errors: errno codes. */
export async function tidyTrees({ root, state, usedBefore, signal }: TidyOptions): Promise<number> {
  const files = new LayerTreeFiles(root);
  const shown = new Set(state.slots.list().map(({ tree }) => tree));
  const adopted = new Set(state.connections.list().map(({ tree }) => tree));
  const mounted = new Set((await readMountInfo()).map(({ source }) => source));
  const names = await readdir(treesDir(root)).catch(() => []);
  // A record alone says that there is no such tree: it costs nothing, and without it another tree would be made anew under whoever has it mounted.
  const keys = names.flatMap((name) => treeFile.exec(name)?.[1] ?? []);
  let removed = 0;
  for (const key of keys) {
    signal?.throwIfAborted();
    const path = files.path(key);
    if (shown.has(key) || mounted.has(path) || adopted.has(await fileIdentity(path))) continue;
    if ((await lastUse(root, key)) >= usedBefore) continue;
    await files.remove(key);
    removed += 1;
  }
  return removed;
}

/** Infinity for what went meanwhile. */
async function lastUse(root: string, key: string): Promise<number> {
  const times = await Promise.all(
    ['erofs', 'erofs.sum', 'json'].map(async (kind) => {
      const found = await stat(join(treesDir(root), `${key}.${kind}`)).catch(() => undefined);
      return found?.mtimeMs;
    }),
  );
  return Math.max(...times.map((time) => time ?? -Infinity));
}
