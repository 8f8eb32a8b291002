import type { SnapshotRow, SnapshotTable } from '../state/snapshots.ts';
import type { SnapshotDirectories } from './directories.ts';
import { SnapshotError } from './errors.ts';
import type { LayerProvider, RootAttributes } from './layer-provider.ts';
import { checkKey } from './requests.ts';

/** Of a new snapshot; undefined for the name ''. Errors: ERR_SNAPSHOT_UNKNOWN, ERR_SNAPSHOT_ARGUMENT when it is not committed. */
export function committedParent(table: SnapshotTable, name: string): SnapshotRow | undefined {
  if (name === '') return undefined;
  checkKey(name, 'parent');
  const parent = table.get(name);
  if (parent === undefined) {
    throw new SnapshotError('ERR_SNAPSHOT_UNKNOWN', `parent ${JSON.stringify(name)} does not exist`);
  }
  if (parent.kind !== 'committed') {
    throw new SnapshotError('ERR_SNAPSHOT_ARGUMENT', `parent ${JSON.stringify(name)} is not committed`);
  }
  return parent;
}

/** A snapshot below another one. */
export type Lower = ReturnType<SnapshotTable['chain']>[number];

/** Topmost first. */
export function lowersOf(table: SnapshotTable, parent: { readonly id: number } | undefined): readonly Lower[] {
  return parent === undefined ? [] : table.chain(parent.id);
}

interface Places {
  readonly directories: SnapshotDirectories;
  readonly layers: LayerProvider;
}

/** Errors: ERR_SNAPSHOT_LAYER with the reason when it is a layer that cannot be used. */
export function lowerDirectory({ directories, layers }: Places, lower: Lower): string {
  if (lower.slot === undefined) return directories.of(lower.id).fs;
  const refusal = layers.refusal(lower.slot);
  if (refusal === undefined) return layers.directory(lower.slot);
  throw new SnapshotError('ERR_SNAPSHOT_LAYER', `${refusal}; remove the image and pull it again`);
}

/** What `/` has to look like in a snapshot above these: whoever is uppermost decides what a container sees. */
export async function rootAbove({ directories, layers }: Places, lowers: readonly Lower[]): Promise<RootAttributes> {
  for (const { id, slot } of lowers) {
    // A layer's own directory is never touched: this process serves what is mounted there.
    const root = slot === undefined ? await directories.rootOf(id) : await layers.rootOf(slot);
    if (root !== undefined) return root;
  }
  return { mode: 0o755, uid: 0, gid: 0 };
}
