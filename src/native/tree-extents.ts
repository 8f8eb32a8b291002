import { addon } from './addon.ts';
import type { RawPath } from './sys.ts';

/** What native/src/binding/tree_extents.cpp exports. */
interface Native {
  treeExtents(path: RawPath): Promise<Float64Array[]>;
}

/**
 * Where the regular files of a tree.erofs lie: for each device in order, stream bytes [start, end) as pairs, ascending and apart; what two
 * files share belongs to the one that starts first. Read on a thread of its own; never for a path that this process serves.
 * Errors: errno codes; EUCLEAN and EOPNOTSUPP for what is no such image.
 */
export function treeExtents(treePath: RawPath): Promise<Float64Array[]> {
  return (addon() as Native).treeExtents(treePath);
}
