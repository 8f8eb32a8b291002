// A directory that an archive has something in and says nothing of itself.
import { type ByteString, byteStringFromText } from '../util/byte-string.ts';
import type { TreeNode } from './tree.ts';

/** Attribute of such a directory in the tree of an archive; its value is empty. */
export const impliedMark = byteStringFromText('trusted.peel.implied');

const marked: ReadonlyMap<ByteString, Uint8Array> = new Map([[impliedMark, new Uint8Array()]]);

export function markImplied(node: TreeNode): void {
  node.xattrs = marked;
}

export function isImplied(node: TreeNode): boolean {
  return node.xattrs.has(impliedMark);
}
