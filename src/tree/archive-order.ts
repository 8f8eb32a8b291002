import type { ByteString } from '../util/byte-string.ts';
import { TreeError } from './errors.ts';
import { type DirectoryNode, isDirectory } from './node.ts';
import type { Tree, TreeNode } from './tree.ts';

/** A name in the tree of an archive. */
export interface ArchiveName {
  /** Clean; '' for the root. */
  readonly path: ByteString;
  readonly node: TreeNode;
  /** The path that came first, for a further name of a file. */
  readonly linksTo: ByteString | undefined;
}

/**
 * All names of the tree of an archive in the order of their entries: each node where it stands, then, breadth first and names ascending,
 * further names of files. The first name of a file is the first, breadth first, whose directory stands before the file.
 * Errors: ERR_TREE_IMAGE when something stands before its directory.
 */
export function archiveNames({ root, order }: Tree): ArchiveName[] {
  if (order === undefined) throw new TypeError('not the tree of an archive');
  const names: (ArchiveName | undefined)[] = Array.from({ length: order.size });
  const others: { path: ByteString; node: TreeNode; at: number }[] = [];
  const at = (node: TreeNode): number => (order.get(node) as number) - 1;
  names[at(root)] = { path: '' as ByteString, node: root, linksTo: undefined };
  const todo: { dir: DirectoryNode; path: ByteString }[] = [{ dir: root, path: '' as ByteString }];
  for (const { dir, path } of todo) {
    const above = at(dir);
    for (const name of [...dir.children.keys()].sort()) {
      const node = dir.children.get(name) as TreeNode;
      const full = (path === '' ? name : `${path}/${name}`) as ByteString;
      const place = at(node);
      if (isDirectory(node)) todo.push({ dir: node, path: full });
      if (place > above && names[place] === undefined) names[place] = { path: full, node, linksTo: undefined };
      else others.push({ path: full, node, at: place });
    }
  }
  if (names.includes(undefined)) {
    throw new TreeError('ERR_TREE_IMAGE', 'something in the tree of the archive stands before its directory');
  }
  const first = names as ArchiveName[];
  const further = others.map(({ path, node, at: place }) => ({
    path,
    node,
    linksTo: (first[place] as ArchiveName).path,
  }));
  return [...first, ...further];
}
