// A snapshot with a directory that somebody else writes into, or a view.
import type { SnapshotRow, SnapshotTable } from '../state/snapshots.ts';
import type { FreshDirectory, SnapshotDirectories } from './directories.ts';
import { SnapshotError } from './errors.ts';
import type { LayerProvider, Labels } from './layer-provider.ts';
import { mountsOf } from './mounts.ts';
import type { Mount, MountedSnapshot } from './mounts.ts';
import { committedParent, lowerDirectory, lowersOf, rootAbove } from './parents.ts';

export interface SnapshotRequest {
  readonly key: string;
  /** '' for none. */
  readonly parent: string;
  readonly labels: Labels;
}

export interface SnapshotParts {
  readonly table: SnapshotTable;
  readonly directories: SnapshotDirectories;
  readonly layers: LayerProvider;
  readonly userXattr: boolean;
  /** Of the machine, as it runs now. */
  readonly boot: string;
}

export interface NewSnapshotOptions extends SnapshotRequest, Pick<SnapshotRow, 'image' | 'layer' | 'reason'> {
  readonly kind: 'view' | 'active';
  readonly throughMount?: boolean;
  readonly signal: AbortSignal;
}

/** Durable when it returns. Errors: all SnapshotErrors; errno codes. */
export async function createSnapshot(parts: SnapshotParts, options: NewSnapshotOptions): Promise<Mount[]> {
  const { table, directories } = parts;
  checkFree(table, options.key);
  const parent = committedParent(table, options.parent);
  // A view of other snapshots has nothing of its own.
  if (options.kind === 'view' && parent !== undefined) return insert(parts, options, undefined).mounts;
  const root = await rootAbove(parts, lowersOf(table, parent));
  const fresh = await directories.make(root, { work: options.kind === 'active' });
  try {
    if (options.signal.aborted) throw new SnapshotError('ERR_SNAPSHOT_CANCELLED', 'the caller went away');
    const { id, mounts } = insert(parts, options, fresh);
    await directories.sync(id);
    return mounts;
  } finally {
    await directories.discard(fresh);
  }
}

/** Errors: ERR_SNAPSHOT_EXISTS. */
export function checkFree(table: SnapshotTable, key: string): void {
  if (table.get(key) === undefined) return;
  throw new SnapshotError('ERR_SNAPSHOT_EXISTS', `snapshot ${JSON.stringify(key)} exists`);
}

export function mountsOfRow(
  parts: SnapshotParts,
  row: Pick<SnapshotRow, 'id' | 'key' | 'kind' | 'parent'>,
  options: Pick<MountedSnapshot, 'throughMount'> = {},
): Mount[] {
  const { table, directories, userXattr } = parts;
  const { id, key, kind } = row;
  if (kind === 'committed') {
    throw new SnapshotError('ERR_SNAPSHOT_STATE', `snapshot ${JSON.stringify(key)} is committed: it has no mounts`);
  }
  const lowers = lowersOf(table, row.parent).map((lower) => lowerDirectory(parts, lower));
  return mountsOf({ key, kind, place: directories.of(id), lowers, userXattr, ...options });
}

/** Row and directory in one go. What was checked before somebody was waited for is checked again. */
function insert(
  parts: SnapshotParts,
  options: NewSnapshotOptions,
  fresh: FreshDirectory | undefined,
): { id: number; mounts: Mount[] } {
  const { table, directories } = parts;
  const { key, kind, labels, image, layer, reason, throughMount } = options;
  let adopted: number | undefined;
  try {
    return table.durably(() => {
      checkFree(table, key);
      const parent = committedParent(table, options.parent);
      const id = table.insert({ key, kind, labels, image, layer, reason, parent: parent?.id });
      const mounts = mountsOfRow(parts, { id, key, kind, parent }, { throughMount });
      if (fresh !== undefined) {
        directories.adopt(fresh, id);
        adopted = id;
      }
      return { id, mounts };
    });
  } catch (error) {
    if (fresh !== undefined && adopted !== undefined) directories.giveBack(fresh, adopted);
    throw error;
  }
}
