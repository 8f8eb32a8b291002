import type { TarEntry } from '../tar/entry.ts';
import type { PaxRecords } from '../tar/pax.ts';
import { xattrsOf } from '../tar/xattr-records.ts';
import type { ByteString } from '../util/byte-string.ts';
import { dataEnd, isDevice, rowFlags, rowTypes } from './entry-rows.ts';
import { ByteWriter } from './varint.ts';

/** The entries section of a node index, see entry-rows.ts. */
export function encodeEntries(entries: readonly TarEntry[]): Buffer {
  const rows = new ByteWriter();
  const strings = new Map<ByteString, number>();
  const intern = (value: ByteString): number => {
    const known = strings.get(value) ?? strings.size;
    strings.set(value, known);
    return known;
  };
  const before: Before = { path: '' as ByteString, mtime: 0, end: 0 };
  for (const entry of entries) encodeRow(rows, entry, before, intern);
  const head = new ByteWriter();
  head.uint(strings.size);
  for (const value of strings.keys()) head.string(value);
  head.uint(entries.length);
  return Buffer.concat([head.finish(), rows.finish()]);
}

/** What a row is written relative to. */
interface Before {
  path: ByteString;
  mtime: number;
  end: number;
}

function encodeRow(rows: ByteWriter, entry: TarEntry, before: Before, intern: (value: ByteString) => number): void {
  const ordinary = isOrdinary(entry);
  const ownXattrs = !sameRecords(entry.xattrs, xattrsOf(entry.pax));
  rows.uint(
    rowTypes.indexOf(entry.type) |
      (entry.link === '' ? 0 : rowFlags.link) |
      (entry.pax.size === 0 ? 0 : rowFlags.pax) |
      (ownXattrs ? rowFlags.xattrs : 0) |
      (ordinary ? 0 : rowFlags.extents) |
      (entry.sparse ? rowFlags.sparse : 0) |
      (entry.rawMode === undefined ? 0 : rowFlags.rawMode),
  );
  const shared = sharedPrefix(before.path, entry.path);
  rows.uint(shared);
  rows.string(entry.path, shared);
  rows.uint(entry.mode);
  if (entry.rawMode !== undefined) rows.uint(entry.rawMode);
  rows.uint(entry.uid);
  rows.uint(entry.gid);
  rows.uint(intern(entry.uname));
  rows.uint(intern(entry.gname));
  rows.int(entry.mtime - before.mtime);
  rows.uint(entry.mtimeNs);
  rows.int(entry.headerOffset - before.end);
  rows.uint(entry.dataOffset - entry.headerOffset);
  rows.uint(entry.size);
  if (entry.link !== '') rows.string(entry.link);
  if (isDevice(entry.type)) {
    rows.uint(entry.devMajor);
    rows.uint(entry.devMinor);
  }
  if (!ordinary) encodeExtents(rows, entry);
  if (entry.pax.size > 0) encodeRecords(rows, entry.pax, intern);
  if (ownXattrs) encodeRecords(rows, entry.xattrs, intern);
  before.path = entry.path;
  before.mtime = entry.mtime;
  before.end = dataEnd(entry.dataOffset, ordinary, entry.size);
}

function encodeExtents(rows: ByteWriter, entry: TarEntry): void {
  rows.uint(entry.extents.length);
  let file = 0;
  let stream = entry.dataOffset;
  for (const extent of entry.extents) {
    rows.int(extent.fileOffset - file);
    rows.int(extent.streamOffset - stream);
    rows.uint(extent.size);
    file = extent.fileOffset + extent.size;
    stream = extent.streamOffset + extent.size;
  }
}

function encodeRecords(rows: ByteWriter, records: PaxRecords, intern: (value: ByteString) => number): void {
  rows.uint(records.size);
  for (const [key, value] of records) {
    rows.uint(intern(key));
    rows.bytes(value);
  }
}

function isOrdinary(entry: TarEntry): boolean {
  const [extent] = entry.extents;
  if (extent === undefined) return entry.size === 0;
  const { fileOffset, streamOffset, size } = extent;
  return (
    entry.extents.length === 1 &&
    fileOffset === 0 &&
    streamOffset === entry.dataOffset &&
    size === entry.size &&
    size > 0
  );
}

function sharedPrefix(a: ByteString, b: ByteString): number {
  const limit = Math.min(a.length, b.length);
  // Most are in one directory.
  const directory = a.slice(0, a.lastIndexOf('/') + 1);
  let i = b.startsWith(directory) ? directory.length : 0;
  while (i < limit && a.charCodeAt(i) === b.charCodeAt(i)) i++;
  return i;
}

function sameRecords(a: PaxRecords, b: PaxRecords): boolean {
  if (a.size !== b.size) return false;
  for (const [key, value] of a) {
    const other = b.get(key);
    if (other === undefined || Buffer.compare(value, other) !== 0) return false;
  }
  return true;
}
