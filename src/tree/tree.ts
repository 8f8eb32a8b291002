import type { ByteString } from '../util/byte-string.ts';

export type NodeType = 'file' | 'dir' | 'symlink' | 'char' | 'block' | 'fifo';

/** A run of a file's bytes in the stream of layer `layer` (0-based position in the image, lowest first). */
export interface TreeExtent {
  readonly layer: number;
  readonly fileOffset: number;
  readonly streamOffset: number;
  readonly size: number;
}

/** An inode. Hard links are several directory entries pointing at the same object. */
export interface TreeNode {
  readonly type: NodeType;
  mode: number;
  uid: number;
  gid: number;
  mtime: number;
  mtimeNs: number;
  /** Bytes; for a symlink the target's length. */
  size: number;
  /** Number of names (a directory: 2 + subdirectories). */
  nlink: number;
  devMajor: number;
  devMinor: number;
  /** Symlink target, else empty. */
  link: ByteString;
  xattrs: ReadonlyMap<ByteString, Uint8Array>;
  extents: readonly TreeExtent[];
  /** Only for `dir`. Insertion order means nothing; sort by key for unsigned-byte order. */
  readonly children?: Map<ByteString, TreeNode>;
}

/** Files and directories of an image (whiteouts applied) or of one layer. */
export interface Tree {
  readonly root: TreeNode & { readonly children: Map<ByteString, TreeNode> };
  /** How many layer streams `TreeExtent.layer` may name. */
  readonly layers: number;
  /** Of the tree of an archive: the place of each node in it, from 1 without gaps; the root is first, and every directory before what is in it. */
  readonly order?: ReadonlyMap<TreeNode, number> | undefined;
}
