// The committed snapshot of a layer: what containerd finds when it was told that the layer is there already.
import type { SnapshotRow, SnapshotTable } from '../state/snapshots.ts';
import { lowerRefusal } from './parents.ts';
import type { Places } from './parents.ts';

/** On the snapshot of a layer that peel unpacked, for who asks containerd. */
export const unpackedLabel = 'peel.unpacked';
export const refLabel = 'containerd.io/snapshot.ref';

type Parent = Pick<SnapshotRow, 'id'> | undefined;

/** Also one that cannot be used; it becomes another one's in place. */
export function committedLayer(table: SnapshotTable, chainId: string, parent: Parent): SnapshotRow | undefined {
  return table.labelled(refLabel, chainId).find((row) => row.kind === 'committed' && row.parent?.id === parent?.id);
}

export function isUsable(places: Places, row: SnapshotRow | undefined): boolean {
  return row !== undefined && lowerRefusal(places, row) === undefined;
}

/** Its name: the same layer is a snapshot of its own above every other parent. */
export function layerKey(chainId: string, parent: Parent): string {
  return parent === undefined ? chainId : `${chainId}@${parent.id.toString(36)}`;
}
