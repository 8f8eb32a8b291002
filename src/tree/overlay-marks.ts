// Attributes that steer overlayfs (Linux, Documentation/filesystems/overlayfs.rst).
import type { TarEntry } from '../tar/entry.ts';
import { type ByteString, byteStringFromText, bytesOf } from '../util/byte-string.ts';
import type { TreeNode } from './tree.ts';

/** Whose attributes an overlay reads: `user` with the mount option `userxattr`. */
export type MarkSpace = 'trusted' | 'user';

/** Nothing of lower directories of the same path shows through. */
export function markOpaque(node: TreeNode, space: MarkSpace): void {
  mark(node, space, 'opaque', 'y');
}

/** For a directory with whiteouts: without this, overlayfs would list them where no lower layer has the directory. */
export function markCopied(node: TreeNode, space: MarkSpace): void {
  mark(node, space, 'origin', '');
}

/** Without what an entry must not say. The attributes of the name space `trusted` never get through. */
export function withoutMarks(xattrs: TreeNode['xattrs'], space: MarkSpace): TreeNode['xattrs'] {
  if (xattrs.size === 0) return xattrs;
  const isMark = (name: ByteString): boolean =>
    name.startsWith('trusted.overlay.') || (space === 'user' && name.startsWith('user.overlay.'));
  if (![...xattrs.keys()].some(isMark)) return xattrs;
  return new Map([...xattrs].filter(([name]) => !isMark(name)));
}

/** Whether overlayfs takes the node for a deleted file. */
export function isWhiteout({ type, devMajor, devMinor }: Pick<TarEntry, 'type' | 'devMajor' | 'devMinor'>): boolean {
  return type === 'char' && devMajor === 0 && devMinor === 0;
}

function mark(node: TreeNode, space: MarkSpace, name: string, value: string): void {
  const full = byteStringFromText(`${space}.overlay.${name}`);
  node.xattrs = new Map([...node.xattrs, [full, bytesOf(byteStringFromText(value))]]);
}
