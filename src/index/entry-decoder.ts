import type { Extent, TarEntry } from '../tar/entry.ts';
import { packRecords } from '../tar/packed-records.ts';
import { noRecords, type PaxRecords } from '../tar/pax.ts';
import { xattrsOf } from '../tar/xattr-records.ts';
import type { ByteString } from '../util/byte-string.ts';
import { dataEnd, isDevice, rowFlags, rowTypes } from './entry-rows.ts';
import { formatError, limitError } from './errors.ts';
import type { IndexLimits } from './limits.ts';
import { ByteReader } from './varint.ts';

/** Reads what encodeEntries wrote. Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT. */
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

function decodeRow(
  reader: ByteReader,
  paths: PathDecoder,
  before: { mtime: number; end: number },
  strings: readonly ByteString[],
): TarEntry {
  const flags = reader.uint();
  const type = rowTypes[flags & rowFlags.type];
  if (type === undefined || flags > 511) throw formatError(`node index has an entry with the flags ${flags}`);
  const path = paths.next(reader);
  const mode = reader.uint();
  const rawMode = (flags & rowFlags.rawMode) === 0 ? undefined : reader.uint();
  const uid = reader.uint();
  const gid = reader.uint();
  const uname = stringAt(strings, reader.uint());
  const gname = stringAt(strings, reader.uint());
  const mtime = before.mtime + reader.int();
  const mtimeNs = reader.uint();
  const headerOffset = before.end + reader.int();
  const dataOffset = headerOffset + reader.uint();
  const size = reader.uint();
  const link = (flags & rowFlags.link) === 0 ? ('' as ByteString) : reader.string();
  const devMajor = isDevice(type) ? reader.uint() : 0;
  const devMinor = isDevice(type) ? reader.uint() : 0;
  const ordinary = (flags & rowFlags.extents) === 0;
  const extents = ordinary ? ordinaryExtents(dataOffset, size) : decodeExtents(reader, dataOffset);
  const pax = (flags & rowFlags.pax) === 0 ? noRecords : packRecords(decodeRecords(reader, strings));
  const xattrs = (flags & rowFlags.xattrs) === 0 ? xattrsOf(pax) : decodeRecords(reader, strings);
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
    sparse: (flags & rowFlags.sparse) !== 0,
    headerOffset,
    dataOffset,
  };
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

function ordinaryExtents(dataOffset: number, size: number): Extent[] {
  return size === 0 ? [] : [{ fileOffset: 0, streamOffset: dataOffset, size }];
}

function stringAt(strings: readonly ByteString[], index: number): ByteString {
  const value = strings[index];
  if (value === undefined) throw formatError(`node index refers to string ${index} of ${strings.length}`);
  return value;
}
