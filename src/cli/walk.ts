import type { TreeNode } from '../tree/tree.ts';
import type { ByteString } from '../util/byte-string.ts';
import { joinPath } from './image-path.ts';

export interface WalkEntry {
  readonly path: ByteString;
  readonly name: ByteString;
  readonly node: TreeNode;
  /** 0 for the children of the start. */
  readonly depth: number;
}

/** A directory's children in the order of their names' bytes. */
export function sortedChildren(node: TreeNode): [ByteString, TreeNode][] {
  return [...(node.children ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Everything below `node` (which stands at `path`), parents before children, names in byte order. */
export function* walkTree(node: TreeNode, path: ByteString, depth = 0): Generator<WalkEntry> {
  for (const [name, child] of sortedChildren(node)) {
    const entry = { path: joinPath(path, name), name, node: child, depth };
    yield entry;
    if (child.children) yield* walkTree(child, entry.path, depth + 1);
  }
}
