// What an entry of an archive says of one node, for a tree that becomes an EROFS image and is read again: nothing may get lost on the way.
import type { TarEntry } from '../tar/entry.ts';
import { displayBytes } from '../util/byte-string.ts';
import { planChunks } from './erofs/chunk.ts';
import { checkInode } from './erofs/inode.ts';
import { xattrSpace } from './erofs/xattr.ts';
import { TreeError } from './errors.ts';
import { impliedMark } from './implied-mark.ts';
import { newNode } from './node.ts';
import { checkLinkTarget } from './link-target.ts';
import type { NodeType, TreeExtent, TreeNode } from './tree.ts';

const blockSize = 512;

/**
 * Anything but a directory or hard link. `what` starts messages.
 * Errors: ERR_TREE_VALUE, ERR_TREE_UNALIGNED, ERR_TREE_SYMLINK.
 */
export function archiveNode(entry: TarEntry, type: Exclude<NodeType, 'dir'>, what: () => string): TreeNode {
  const node = newNode(type, 0);
  if (type === 'symlink') {
    checkLinkTarget(entry.link, what);
    node.link = entry.link;
    node.size = entry.link.length;
  } else if (type === 'file') {
    node.size = entry.size;
    node.extents = joined(entry);
    planChunks(node.size, node.extents, blockSize, what);
  } else if (type !== 'fifo') {
    node.devMajor = entry.devMajor;
    node.devMinor = entry.devMinor;
  }
  describeNode(node, entry, what);
  // Linux has no modes for links: extracted or not, they are 0777.
  if (type === 'symlink') node.mode = 0o777;
  return node;
}

/** Owner, mode, time and attributes. Errors: ERR_TREE_VALUE. */
export function describeNode(node: TreeNode, entry: TarEntry, what: () => string): void {
  node.mode = entry.mode;
  node.uid = entry.uid;
  node.gid = entry.gid;
  node.mtime = entry.mtime;
  node.mtimeNs = entry.mtimeNs;
  node.xattrs = entry.xattrs;
  checkInode(node, what);
  if (!Number.isInteger(node.mtimeNs))
    throw new TreeError('ERR_TREE_VALUE', `${what()}: impossible nanoseconds ${node.mtimeNs}`);
  for (const name of node.xattrs.keys()) {
    if (name === impliedMark)
      throw new TreeError('ERR_TREE_VALUE', `${what()}: extended attribute ${name} has a meaning of its own here`);
    if (xattrSpace(name) === undefined)
      throw new TreeError(
        'ERR_TREE_VALUE',
        `${what()}: extended attribute ${displayBytes(name)} is in no name space of Linux`,
      );
  }
}

/** Runs that follow each other in file and stream are one, as they are when they are read. */
function joined({ extents }: TarEntry): TreeExtent[] {
  const runs: TreeExtent[] = [];
  for (const { fileOffset, streamOffset, size } of extents) {
    const last = runs.at(-1);
    if (
      last !== undefined &&
      last.fileOffset + last.size === fileOffset &&
      last.streamOffset + last.size === streamOffset
    )
      runs[runs.length - 1] = { ...last, size: last.size + size };
    else runs.push({ layer: 0, fileOffset, streamOffset, size });
  }
  return runs;
}
