import type { SnapshotRow, SnapshotTable } from '../state/snapshots.ts';
import { readImageLabels } from './image-labels.ts';
import type { ContainerStart } from './layer-provider.ts';

/** What a container above the committed snapshot `parent` starts on; undefined when no layer of it is served, or nobody said of which image. */
export function containerStart(table: SnapshotTable, parent: string): ContainerStart | undefined {
  const top = table.get(parent);
  if (top === undefined) return undefined;
  const slots = table.chain(top.id).flatMap(({ slot }) => slot ?? []);
  if (slots.length === 0) return undefined;
  // What somebody committed on top of an image says nothing of it.
  let named: SnapshotRow | undefined = top;
  while (named !== undefined && named.image === undefined)
    named = named.parent === undefined ? undefined : table.get(named.parent.key);
  if (named?.image === undefined) return undefined;
  const labels = readImageLabels(named.labels);
  const manifest = 'refusal' in labels ? undefined : labels.manifest;
  return { slots: slots.toReversed(), image: named.image, manifest };
}
