// The entries of a node index, one row per tar member in archive order:
//   string table: count, then strings (owner names, PAX keys) · entry count · rows:
//   flags · path: bytes shared with the path before, rest · mode (raw mode) uid gid uname gname · mtime (delta) mtimeNs
//   header start (from the end of the data before) · header length · size
//   then as flags say: link · devices · extents · PAX records · xattrs
// flags: bits 0-2 type, 3 has a link, 4 has PAX records, 5 has xattrs other than those PAX records, 6 has extents other than
// one that covers all of a file's data, 7 sparse, 8 has a raw mode. Numbers are varints.
import type { EntryType, Extent, TarEntry } from '../tar/entry.ts';
import { noRecords, type PaxRecords } from '../tar/pax.ts';
import { xattrsOf } from '../tar/xattr-records.ts';
import type { ByteString } from '../util/byte-string.ts';
import { formatError, limitError } from './errors.ts';
import type { IndexLimits } from './limits.ts';
import { ByteReader, ByteWriter } from './varint.ts';

const types: readonly EntryType[] = ['file', 'dir', 'symlink', 'hardlink', 'char', 'block', 'fifo'];
const typeMask = 7;
const hasLink = 8;
const hasPax = 16;
const hasXattrs = 32;
const hasExtents = 64;
const isSparse = 128;
const hasRawMode = 256;

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

/** Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT. */
export function decodeEntries(bytes: Uint8Array, limits: IndexLimits): TarEntry[] {
  const reader = new ByteReader(bytes);
  const stringCount = reader.uint();
  if (stringCount > bytes.length)
    throw formatError(`node index claims ${stringCount} strings in ${bytes.length} bytes`);
  const strings: ByteString[] = [];
  for (let i = 0; i < stringCount; i++) strings.push(reader.string());
  const count = reader.uint();
  if (count > limits.entries) throw limitError('number of node index entries', count, limits.entries);
  const before = { mtime: 0, end: 0 };
  const paths = new PathDecoder(limits);
  const entries: TarEntry[] = [];
  for (let i = 0; i < count; i++) entries.push(decodeRow(reader, paths, before, strings));
  if (!reader.done) throw formatError('node index has bytes behind its last entry');
  return entries;
}

/** What a row is written relative to. */
interface Before {
  path: ByteString;
  mtime: number;
  end: number;
}

/** Paths share prefixes: each is put together here, so that none keeps another one's memory. */
class PathDecoder {
  #bytes = Buffer.alloc(4096);
  #length = 0;
  readonly #limits: IndexLimits;

  constructor(limits: IndexLimits) {
    this.#limits = limits;
  }

  next(reader: ByteReader): ByteString {
    const shared = reader.uint();
    if (shared > this.#length)
      throw formatError(`node index has a path that shares ${shared} of ${this.#length} bytes`);
    const rest = reader.bytes();
    const length = shared + rest.length;
    if (length > this.#limits.nameBytes) throw limitError('length of a path', length, this.#limits.nameBytes);
    if (length > this.#bytes.length) this.#bytes = Buffer.concat([this.#bytes, Buffer.alloc(length)]);
    rest.copy(this.#bytes, shared);
    this.#length = length;
    return this.#bytes.toString('latin1', 0, length) as ByteString;
  }
}

function encodeRow(rows: ByteWriter, entry: TarEntry, before: Before, intern: (value: ByteString) => number): void {
  const ordinary = isOrdinary(entry);
  const ownXattrs = !sameRecords(entry.xattrs, xattrsOf(entry.pax));
  rows.uint(
    types.indexOf(entry.type) |
      (entry.link === '' ? 0 : hasLink) |
      (entry.pax.size === 0 ? 0 : hasPax) |
      (ownXattrs ? hasXattrs : 0) |
      (ordinary ? 0 : hasExtents) |
      (entry.sparse ? isSparse : 0) |
      (entry.rawMode === undefined ? 0 : hasRawMode),
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

function decodeRow(
  reader: ByteReader,
  paths: PathDecoder,
  before: Omit<Before, 'path'>,
  strings: readonly ByteString[],
): TarEntry {
  const flags = reader.uint();
  const type = types[flags & typeMask];
  if (type === undefined || flags > 511) throw formatError(`node index has an entry with the flags ${flags}`);
  const path = paths.next(reader);
  const mode = reader.uint();
  const rawMode = (flags & hasRawMode) === 0 ? undefined : reader.uint();
  const uid = reader.uint();
  const gid = reader.uint();
  const uname = stringAt(strings, reader.uint());
  const gname = stringAt(strings, reader.uint());
  const mtime = before.mtime + reader.int();
  const mtimeNs = reader.uint();
  const headerOffset = before.end + reader.int();
  const dataOffset = headerOffset + reader.uint();
  const size = reader.uint();
  const link = (flags & hasLink) === 0 ? ('' as ByteString) : reader.string();
  const devMajor = isDevice(type) ? reader.uint() : 0;
  const devMinor = isDevice(type) ? reader.uint() : 0;
  const ordinary = (flags & hasExtents) === 0;
  const extents = ordinary ? ordinaryExtents(dataOffset, size) : decodeExtents(reader, dataOffset);
  const pax = (flags & hasPax) === 0 ? noRecords : decodeRecords(reader, strings);
  const xattrs = (flags & hasXattrs) === 0 ? xattrsOf(pax) : decodeRecords(reader, strings);
  before.mtime = mtime;
  before.end = dataEnd(dataOffset, ordinary, size);
  return {
    path,
    type,
    mode,
    ...(rawMode === undefined ? undefined : { rawMode }),
    uid,
    gid,
    uname,
    gname,
    mtime,
    mtimeNs,
    size,
    link,
    devMajor,
    devMinor,
    xattrs,
    pax,
    extents,
    sparse: (flags & isSparse) !== 0,
    headerOffset,
    dataOffset,
  };
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

function decodeExtents(reader: ByteReader, dataOffset: number): Extent[] {
  const count = reader.uint();
  const extents: Extent[] = [];
  let file = 0;
  let stream = dataOffset;
  for (let i = 0; i < count; i++) {
    const fileOffset = file + reader.int();
    const streamOffset = stream + reader.int();
    const size = reader.uint();
    extents.push({ fileOffset, streamOffset, size });
    file = fileOffset + size;
    stream = streamOffset + size;
  }
  return extents;
}

function encodeRecords(rows: ByteWriter, records: PaxRecords, intern: (value: ByteString) => number): void {
  rows.uint(records.size);
  for (const [key, value] of records) {
    rows.uint(intern(key));
    rows.bytes(value);
  }
}

function decodeRecords(reader: ByteReader, strings: readonly ByteString[]): PaxRecords {
  const count = reader.uint();
  const records = new Map<ByteString, Uint8Array>();
  for (let i = 0; i < count; i++) {
    const key = stringAt(strings, reader.uint());
    // Copied: a kept attribute must not hold the whole index in memory.
    records.set(key, new Uint8Array(reader.bytes()));
  }
  return records;
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

function ordinaryExtents(dataOffset: number, size: number): Extent[] {
  return size === 0 ? [] : [{ fileOffset: 0, streamOffset: dataOffset, size }];
}

function dataEnd(dataOffset: number, ordinary: boolean, size: number): number {
  return ordinary ? dataOffset + Math.ceil(size / 512) * 512 : dataOffset;
}

function isDevice(type: EntryType): boolean {
  return type === 'char' || type === 'block';
}

function stringAt(strings: readonly ByteString[], index: number): ByteString {
  const value = strings[index];
  if (value === undefined) throw formatError(`node index refers to string ${index} of ${strings.length}`);
  return value;
}

function sharedPrefix(a: ByteString, b: ByteString): number {
  const limit = Math.min(a.length, b.length);
  let i = 0;
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
