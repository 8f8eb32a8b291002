import type { ChainLink, SnapshotRow, SnapshotTable } from '../state/snapshots.ts';
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
export type Lower = ChainLink;

/** Topmost first. */
export function lowersOf(table: SnapshotTable, parent: { readonly id: number } | undefined): readonly Lower[] {
  return parent === undefined ? [] : table.chain(parent.id);
}

export interface Places {
  readonly directories: SnapshotDirectories;
  readonly layers: LayerProvider;
  /** Of the machine, as it runs now. */
  readonly boot: string;
}

/** Why a committed snapshot must not be used; undefined when all is well. Cheap. */
export function lowerRefusal(
  { layers, boot }: Pick<Places, 'layers' | 'boot'>,
  { id, slot, layer, unsynced }: Lower,
): string | undefined {
  if (slot !== undefined) return layers.refusal(slot);
  if (unsynced === undefined || unsynced === boot) return undefined;
  return `layer ${layer ?? id.toString(36)} was still being written to disk when the machine went down`;
}

/** Errors: ERR_SNAPSHOT_LAYER with the reason when it is a layer that cannot be used. */
export function lowerDirectory(places: Places, lower: Lower): string {
  const refusal = lowerRefusal(places, lower);
  if (refusal !== undefined)
    throw new SnapshotError('ERR_SNAPSHOT_LAYER', `${refusal}; remove the image and pull it again`);
  const { directories, layers } = places;
  return lower.slot === undefined ? directories.of(lower.id).fs : layers.directory(lower.slot);
}

/** What `/` has to look like in a snapshot above these: whoever is uppermost decides what a container sees. */
export async function rootAbove(
  { directories, layers }: Pick<Places, 'directories' | 'layers'>,
  lowers: readonly Lower[],
): Promise<RootAttributes> {
  for (const { id, slot } of lowers) {
    // A layer's own directory is never touched: this process serves what is mounted there.
    const root = slot === undefined ? await directories.rootOf(id) : await layers.rootOf(slot);
    if (root !== undefined) return root;
  }
  return { mode: 0o755, uid: 0, gid: 0 };
}
