import { noXattrs } from '../tar/xattr-records.ts';
import type { ByteString } from '../util/byte-string.ts';
import type { NodeType, TreeExtent, TreeNode } from './tree.ts';

export type DirectoryNode = TreeNode & { readonly children: Map<ByteString, TreeNode> };

const EMPTY = '' as ByteString;
const noExtents: readonly TreeExtent[] = [];

/** All nodes are made here, with the same fields in the same order, so that walks over them stay fast. */
export function newNode(type: NodeType, mode: number): TreeNode {
  return {
    type,
    mode,
    uid: 0,
    gid: 0,
    mtime: 0,
    mtimeNs: 0,
    size: 0,
    nlink: 0,
    devMajor: 0,
    devMinor: 0,
    link: EMPTY,
    xattrs: noXattrs,
    extents: noExtents,
    ...(type === 'dir' ? { children: new Map<ByteString, TreeNode>() } : undefined),
  };
}

/** A directory nobody described: 0755, root's, from the epoch. */
export function newDirectory(): DirectoryNode {
  return newNode('dir', 0o755) as DirectoryNode;
}

export function isDirectory(node: TreeNode): node is DirectoryNode {
  return node.children !== undefined;
}
