import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LayerTreeFiles } from '../image/layer-tree-files.ts';
import { isTreeFileRight, removeTreeFile } from '../image/tree-file.ts';
import { allNamesIn } from '../util/all-names-in.ts';
import { guarded } from './check.ts';
import type { CheckOptions, FsckDeps } from './check.ts';

const treeName = /^([0-9a-f]{64})\.erofs$/;

/** Compiled trees against what was written. Errors: errno codes of a folder that cannot be read; the signal's reason. */
export async function checkTrees({ root, state }: FsckDeps, options: CheckOptions): Promise<void> {
  const dir = join(root, 'trees', 'sha256');
  const files = new LayerTreeFiles(root);
  const check = async (key: string, path: string): Promise<void> => {
    await options.pace((await stat(path).catch(() => undefined))?.size ?? 0, options.signal);
    if ((await isTreeFileRight(path)) !== false) return;
    // A merged tree has no slot: whoever has it mounted keeps the file open, and the next one makes it anew.
    const slot = state.slots.byTree(key);
    const isShown = slot !== undefined && state.slots.isShown(slot.slot);
    const repaired = options.repair && !isShown;
    if (repaired) {
      await files.remove(key);
      await removeTreeFile(path);
    }
    const left = `snapshots of containerd show it: remove and pull the images of layer ${slot?.layer ?? '?'} again`;
    const how = !options.repair ? undefined : repaired ? 'removed; it is made again when it is needed' : left;
    options.found({ place: 'tree', subject: key, what: 'its bytes are not those that were written', repaired, how });
  };
  for (const name of (await allNamesIn(dir)) ?? []) {
    const key = treeName.exec(name)?.[1];
    if (key !== undefined) await guarded(options, { place: 'tree', subject: key }, () => check(key, join(dir, name)));
  }
}
