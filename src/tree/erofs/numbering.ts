// The order of inodes: breadth first, so that a directory's children lie side by side and the root comes first (its number
// has 16 bits in the superblock).
import { type ByteString, displayBytes } from '../../util/byte-string.ts';
import { type DirectoryNode, isDirectory } from '../node.ts';
import type { Tree, TreeNode } from '../tree.ts';

export interface DirectoryListing {
  /** Ascending by unsigned bytes, with `.` and `..`. */
  readonly names: readonly string[];
  /** Inode of each name, by position in `InodeNumbering.nodes`. */
  readonly targets: Uint32Array;
}

export interface InodeNumbering {
  readonly nodes: readonly TreeNode[];
  /** By position of the directory; undefined for anything else. */
  readonly listings: readonly (DirectoryListing | undefined)[];
  /** A path of inode `i` for messages. */
  readonly nameOf: (i: number) => string;
}

export function numberInodes(tree: Tree): InodeNumbering {
  const nodes: TreeNode[] = [tree.root];
  const parents: number[] = [0];
  const names: string[] = [''];
  const listings: (DirectoryListing | undefined)[] = [];
  const linked = new Map<TreeNode, number>();

  const numberOf = (node: TreeNode, parent: number, name: string): number => {
    const shared = node.nlink > 1 && !isDirectory(node);
    const known = shared ? linked.get(node) : undefined;
    if (known !== undefined) return known;
    const number = nodes.push(node) - 1;
    parents.push(parent);
    names.push(name);
    if (shared) linked.set(node, number);
    return number;
  };
  const list = (dir: DirectoryNode, self: number): DirectoryListing => {
    const all: string[] = [...dir.children.keys(), '.', '..'];
    all.sort();
    const targets = new Uint32Array(all.length);
    for (let i = 0; i < all.length; i++) {
      const name = all[i] as ByteString;
      if (name === '.') targets[i] = self;
      else if (name === '..') targets[i] = parents[self] as number;
      else targets[i] = numberOf(dir.children.get(name) as TreeNode, self, name);
    }
    return { names: all, targets };
  };

  for (let i = 0; i < nodes.length; i++) {
    const node = nodes[i] as TreeNode;
    listings.push(isDirectory(node) ? list(node, i) : undefined);
  }
  return {
    nodes,
    listings,
    nameOf: (i) => {
      const parts: string[] = [];
      for (let at = i; at !== 0; at = parents[at] as number) parts.unshift(names[at] as string);
      return `/${displayBytes(parts.join('/') as ByteString)}`;
    },
  };
}
