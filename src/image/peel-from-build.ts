import type { LayerBuild } from '../index/layer-build.ts';
import { defaultIndexLimits } from '../index/limits.ts';
import { writePeelTable } from '../index/peel-table-writer.ts';
import { archiveTree } from '../tree/archive-tree.ts';
import { writeErofs } from '../tree/erofs-writer.ts';
import { TreeError } from '../tree/errors.ts';

/** What a peel index has for a layer, or why it has nothing. */
export type PeelResult =
  | {
      readonly table: Uint8Array;
      /** Undefined when no span needs a window. */
      readonly windows: Uint8Array | undefined;
      /** Stream bytes per span that were asked for. */
      readonly spanSize: number;
      readonly skipped: undefined;
    }
  | { readonly table: undefined; readonly skipped: string };

/** The peel table and the windows of a layer that was just read, with fine spans asked for. The same layer gives the same bytes. */
export function peelFromBuild(build: LayerBuild): PeelResult {
  if (build.fine === undefined) return skip(build.fineObstacle ?? 'its spans were not asked for');
  const { spans, frames, frameLengths, frameSha256 } = build.fine;
  const tree = treeOf(build);
  if (typeof tree === 'string') return skip(tree);
  const { treeBytes, blobBytes } = defaultIndexLimits;
  if (tree.length > treeBytes) return skip(`its tree takes ${tree.length} bytes, more than the ${treeBytes} allowed`);
  const table = writePeelTable({
    layer: build.blobDigest,
    diffId: build.diffId,
    spans,
    windows: { lengths: frameLengths, sha256: frameSha256 },
    tree,
  });
  if (table.length > blobBytes) return skip(`its table takes ${table.length} bytes, more than the ${blobBytes} allowed`);
  const windows = frames.length === 0 ? undefined : frames;
  return { table, windows, spanSize: spans.spanSize, skipped: undefined };
}

/** Or why an index cannot have one that says what the archive does. */
function treeOf({ entries, streamSize }: LayerBuild): Uint8Array | string {
  try {
    return writeErofs(archiveTree(entries, { streamSize }));
  } catch (error) {
    if (error instanceof TreeError) return error.message;
    throw error;
  }
}

function skip(skipped: string): PeelResult {
  return { table: undefined, skipped };
}
