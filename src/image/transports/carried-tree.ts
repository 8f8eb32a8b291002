// What of a tree libfuse 2's path strings can carry. Names and link targets there are UTF-8 text; anything else would come back
// as another name, so such entries are left out and counted.
import type { Tree, TreeNode } from '../../tree/tree.ts';
import { bytesOf, displayBytes } from '../../util/byte-string.ts';
import type { ByteString } from '../../util/byte-string.ts';

export interface CarriedTree {
  /** By the text of the path's names; undefined when there is no such entry, or it was left out. */
  lookup(path: string): TreeNode | undefined;
  names(node: TreeNode): readonly { readonly name: string; readonly node: TreeNode }[];
  /** Stable for the life of this object, from 1; the same for all names of a hard link. */
  inode(node: TreeNode): number;
  link(node: TreeNode): string;
  readonly leftOut: number;
  /** For people. */
  readonly firstLeftOut: string | undefined;
}

type Directory = Map<string, TreeNode>;

export function carryTree(tree: Tree): CarriedTree {
  const directories = new Map<TreeNode, Directory>();
  const inodes = new Map<TreeNode, number>([[tree.root, 1]]);
  let leftOut = 0;
  let firstLeftOut: string | undefined;
  const leave = (path: string) => {
    leftOut += 1;
    firstLeftOut ??= path;
  };
  const visit = (directory: TreeNode, path: string) => {
    const carried: Directory = new Map();
    directories.set(directory, carried);
    for (const [name, node] of directory.children ?? []) {
      const text = textOf(name);
      const fits = text !== undefined && (node.type !== 'symlink' || textOf(node.link) !== undefined);
      if (!fits) {
        leave(`${path}/${displayBytes(name)}`);
        continue;
      }
      carried.set(text, node);
      if (!inodes.has(node)) inodes.set(node, inodes.size + 1);
      if (node.children !== undefined) visit(node, `${path}/${text}`);
    }
  };
  visit(tree.root, '');
  return {
    lookup: (path) => {
      let node: TreeNode | undefined = tree.root;
      for (const name of path.split('/')) {
        if (name !== '' && node !== undefined) node = directories.get(node)?.get(name);
      }
      return node;
    },
    names: (node) => [...(directories.get(node) ?? [])].map(([name, child]) => ({ name, node: child })),
    inode: (node) => inodes.get(node) ?? 0,
    link: (node) => textOf(node.link) ?? '',
    leftOut,
    firstLeftOut,
  };
}

function textOf(name: ByteString): string | undefined {
  const bytes = bytesOf(name);
  const text = bytes.toString('utf8');
  return Buffer.from(text, 'utf8').equals(bytes) ? text : undefined;
}
