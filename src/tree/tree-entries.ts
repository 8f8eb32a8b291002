import type { TarEntry } from '../tar/entry.ts';
import { noRecords } from '../tar/pax.ts';
import { noXattrs } from '../tar/xattr-records.ts';
import type { ByteString } from '../util/byte-string.ts';
import { type ArchiveName, archiveNames } from './archive-order.ts';
import { isImplied } from './implied-mark.ts';
import type { Tree } from './tree.ts';

const nothing = '' as ByteString;
const rootPath = './' as ByteString;

/**
 * The entries of an archive from its tree (`archiveTree`): merged or unpacked they do what those of the archive do. They stand as in the
 * archive, further names of files last. What a tree does not hold is empty: names of owners and PAX records. An entry begins at its first
 * byte of data, or where the data before it end.
 * Errors: ERR_TREE_IMAGE when something stands before its directory.
 */
export function treeEntries(tree: Tree): TarEntry[] {
  const entries: TarEntry[] = [];
  let end = 0;
  for (const name of archiveNames(tree)) {
    if (isImplied(name.node)) continue;
    const entry = entryOf(name, end);
    const last = entry.extents.at(-1);
    end = last === undefined ? end : last.streamOffset + last.size;
    entries.push(entry);
  }
  return entries;
}

function entryOf({ path, node, linksTo }: ArchiveName, end: number): TarEntry {
  const isLink = linksTo !== undefined;
  const extents = isLink
    ? []
    : node.extents.map(({ fileOffset, streamOffset, size }) => ({ fileOffset, streamOffset, size }));
  const size = isLink || node.type !== 'file' ? 0 : node.size;
  const [first] = extents;
  const start = first?.streamOffset ?? end;
  const whole = size === 0 || (first !== undefined && first.fileOffset === 0 && first.size === size);
  return {
    path: path === '' ? rootPath : path,
    type: isLink ? 'hardlink' : node.type,
    mode: node.mode,
    uid: node.uid,
    gid: node.gid,
    uname: nothing,
    gname: nothing,
    mtime: node.mtime,
    mtimeNs: node.mtimeNs,
    size,
    link: linksTo ?? node.link,
    devMajor: isLink ? 0 : node.devMajor,
    devMinor: isLink ? 0 : node.devMinor,
    xattrs: isLink ? noXattrs : node.xattrs,
    pax: noRecords,
    extents,
    sparse: !whole,
    headerOffset: start,
    dataOffset: start,
  };
}
