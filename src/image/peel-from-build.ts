import { IndexError } from '../index/errors.ts';
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
  // With the root as many as a reader takes.
  const maxNames = defaultIndexLimits.entries - 1;
  try {
    const table = writePeelTable({
      layer: build.blobDigest,
      diffId: build.diffId,
      spans,
      windows: { lengths: frameLengths, sha256: frameSha256 },
      tree: writeErofs(archiveTree(build.entries, { streamSize: build.streamSize, maxNames })),
    });
    return { table, windows: frames.length === 0 ? undefined : frames, spanSize: spans.spanSize, skipped: undefined };
  } catch (error) {
    if (saysWhyNot(error)) return skip(error.message);
    throw error;
  }
}

/** A tree that an index cannot have truthfully, or a table that no reader would take. */
function saysWhyNot(error: unknown): error is Error {
  if (error instanceof TreeError) return true;
  return error instanceof IndexError && (error.code === 'ERR_INDEX_UNSUPPORTED' || error.code === 'ERR_INDEX_LIMIT');
}

function skip(skipped: string): PeelResult {
  return { table: undefined, skipped };
}
