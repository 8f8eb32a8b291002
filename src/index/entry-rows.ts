// The entries of a node index, one row per tar member in archive order:
//   string table: count, then strings (owner names, PAX keys) · entry count · rows:
//   flags · path: bytes shared with the path before, rest · mode (raw mode) uid gid uname gname · mtime (delta) mtimeNs
//   header start (from the end of the data before) · header length · size
//   then as flags say: link · devices · extents · PAX records · xattrs
// flags: bits 0-2 type, 3 has a link, 4 has PAX records, 5 has xattrs other than those PAX records, 6 has extents other than
// one that covers all of a file's data, 7 sparse, 8 has a raw mode. Numbers are varints.
import type { EntryType } from '../tar/entry.ts';

export const rowTypes: readonly EntryType[] = ['file', 'dir', 'symlink', 'hardlink', 'char', 'block', 'fifo'];

export const rowFlags = {
  type: 7,
  link: 8,
  pax: 16,
  xattrs: 32,
  extents: 64,
  sparse: 128,
  rawMode: 256,
} as const;

/** Where the data of a row end, padded; the next header is expected there. `ordinary`: all in one extent. */
export function dataEnd(dataOffset: number, ordinary: boolean, size: number): number {
  return ordinary ? dataOffset + Math.ceil(size / 512) * 512 : dataOffset;
}

export function isDevice(type: EntryType): boolean {
  return type === 'char' || type === 'block';
}
