// The table of contents inside a SOCI zTOC 0.9: one FileMetadata per tar member, in any order, without header offsets.
// Those follow from the archive being gapless: a header starts where the padded data of the member before it ends.
import { type ByteString, displayBytes } from '../util/byte-string.ts';
import type { EntryType, TarEntry } from '../tar/entry.ts';
import { packRecords } from '../tar/packed-records.ts';
import { noRecords, type PaxRecords } from '../tar/pax.ts';
import { xattrsOf } from '../tar/xattr-records.ts';
import { formatError, IndexError, limitError } from './errors.ts';
import type { FlatTable } from './flatbuffer-reader.ts';
import type { IndexLimits } from './limits.ts';
import { type Instant, parseRfc3339 } from './rfc3339.ts';
import { entryTypeOf, fileSlots, paxSlots, tocSlots } from './ztoc-schema.ts';

const blockSize = 512;
const permissionBits = 0o7777;
/** How often the strings of a zTOC may be referenced over its own size: sharing is allowed, amplification is not. */
const sharingFactor = 4;

interface Member {
  readonly table: FlatTable;
  readonly type: EntryType;
  readonly dataOffset: number;
  /** Bytes of data in the archive. */
  readonly size: number;
}

/**
 * Entries in archive order. `streamSize` bounds their data, `budget` is the size of the zTOC in bytes.
 * Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT, ERR_INDEX_UNSUPPORTED for a sparse file.
 */
export function readZtocEntries(toc: FlatTable, streamSize: number, budget: number, limits: IndexLimits): TarEntry[] {
  const count = toc.vectorLength(tocSlots.metadata, 'TOC metadata');
  if (count > limits.entries) throw limitError('number of zTOC entries', count, limits.entries);
  const members: Member[] = [];
  for (let i = 0; i < count; i++) {
    const member = named(`zTOC entry ${i}`, () => readMember(toc.tableAt(tocSlots.metadata, i, 'table')));
    members.push(member);
  }
  members.sort((a, b) => a.dataOffset - b.dataOffset);
  const reader = new EntryReader(budget * sharingFactor + limits.nameBytes, limits);
  let headerOffset = 0;
  return members.map((member) => {
    const entry = reader.read(member, headerOffset);
    checkPlace(entry, member, streamSize);
    headerOffset = Math.ceil((member.dataOffset + member.size) / blockSize) * blockSize;
    return entry;
  });
}

/** Says in the message of an error which entry it is about. */
function named<T>(what: string | (() => string), read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof IndexError)) throw error;
    const name = typeof what === 'string' ? what : what();
    throw new IndexError(error.code, `${name}: ${error.message}`, { cause: error });
  }
}

function readMember(table: FlatTable): Member {
  const typeName = table.string(fileSlots.type, 'type');
  const type = entryTypeOf(typeName);
  if (type === undefined) throw formatError(`unknown type ${JSON.stringify(typeName.slice(0, 32))}`);
  const dataOffset = table.int64(fileSlots.offset, 'data offset');
  const size = table.int64(fileSlots.size, 'size');
  if (dataOffset < 0 || size < 0) throw formatError(`lies at ${dataOffset} with size ${size}`);
  // Links may state the size of their target, but only regular files have data in an archive.
  return { table, type, dataOffset, size: type === 'file' ? size : 0 };
}

function checkPlace(entry: TarEntry, member: Member, streamSize: number): void {
  const headerSize = entry.dataOffset - entry.headerOffset;
  if (headerSize < blockSize || headerSize % blockSize !== 0) {
    throw formatError(
      `zTOC entry ${displayBytes(entry.path)}: its header would be ${headerSize} bytes at stream offset ${entry.headerOffset}`,
    );
  }
  if (entry.dataOffset + member.size > streamSize) {
    throw formatError(
      `zTOC entry ${displayBytes(entry.path)}: its data ends at ${entry.dataOffset + member.size}, behind the stream's ${streamSize} bytes`,
    );
  }
}

class EntryReader {
  readonly #limits: IndexLimits;
  readonly #owners = new Map<number, ByteString>();
  #budget: number;
  #timeText = '';
  #lastTime: Instant | undefined;

  constructor(budget: number, limits: IndexLimits) {
    this.#budget = budget;
    this.#limits = limits;
  }

  read(member: Member, headerOffset: number): TarEntry {
    const path = named(`zTOC entry at stream offset ${member.dataOffset}`, () =>
      this.#name(member.table, fileSlots.name, 'name'),
    );
    return named(
      () => `zTOC entry ${displayBytes(path.slice(0, 256) as ByteString)}`,
      () => this.#fields(member, headerOffset, path),
    );
  }

  #fields({ table, type, dataOffset, size }: Member, headerOffset: number, path: ByteString): TarEntry {
    const time = this.#time(table.string(fileSlots.modTime, 'mod_time'));
    if (time === undefined) throw formatError('mod_time is not an RFC 3339 time');
    const pax = this.#pax(table);
    if (isSparse(pax)) {
      throw new IndexError('ERR_INDEX_UNSUPPORTED', 'its PAX records say it is sparse, which a zTOC cannot describe');
    }
    const rawMode = table.int64(fileSlots.mode, 'mode');
    if (rawMode < 0) throw formatError(`mode is ${rawMode}`);
    const mode = rawMode & permissionBits;
    const isDevice = type === 'char' || type === 'block';
    const isLink = type === 'symlink' || type === 'hardlink';
    return {
      path,
      type,
      mode,
      ...(rawMode === mode ? undefined : { rawMode }),
      uid: table.uint32(fileSlots.uid),
      gid: table.uint32(fileSlots.gid),
      uname: this.#owner(table, fileSlots.uname),
      gname: this.#owner(table, fileSlots.gname),
      mtime: time.seconds,
      mtimeNs: time.nanoseconds,
      size,
      link: isLink ? this.#name(table, fileSlots.link, 'link') : ('' as ByteString),
      devMajor: isDevice ? readDevice(table, fileSlots.devMajor, 'devmajor') : 0,
      devMinor: isDevice ? readDevice(table, fileSlots.devMinor, 'devminor') : 0,
      xattrs: xattrsOf(pax),
      pax: packRecords(pax),
      extents: size > 0 ? [{ fileOffset: 0, streamOffset: dataOffset, size }] : [],
      sparse: false,
      headerOffset,
      dataOffset,
    };
  }

  /** Neighbours were often made at one time. */
  #time(text: string): Instant | undefined {
    if (text !== this.#timeText) {
      this.#timeText = text;
      this.#lastTime = parseRfc3339(text);
    }
    return this.#lastTime;
  }

  #name(table: FlatTable, slot: number, what: string): ByteString {
    const length = table.stringLength(slot, what);
    if (length > this.#limits.nameBytes) throw limitError(`length of ${what}`, length, this.#limits.nameBytes);
    this.#spend(length);
    return table.string(slot, what);
  }

  /** User and group names repeat: each is decoded once when the writer shared it. */
  #owner(table: FlatTable, slot: number): ByteString {
    const position = table.stringPosition(slot, 'owner');
    const known = this.#owners.get(position);
    if (known !== undefined) return known;
    const value = this.#name(table, slot, 'owner');
    this.#owners.set(position, value);
    return value;
  }

  #pax(table: FlatTable): PaxRecords {
    const count = table.vectorLength(fileSlots.pax, 'PAX records');
    if (count === 0) return noRecords;
    if (count > this.#limits.paxRecords) throw limitError('number of PAX records', count, this.#limits.paxRecords);
    const records = new Map<ByteString, Uint8Array>();
    let total = 0;
    for (let i = 0; i < count; i++) {
      const record = table.tableAt(fileSlots.pax, i, 'PAX record');
      const key = record.string(paxSlots.key, 'PAX key');
      const value = record.bytes(paxSlots.value, 'PAX value');
      total += key.length + value.length;
      if (total > this.#limits.paxBytes) throw limitError('size of PAX records', total, this.#limits.paxBytes);
      this.#spend(key.length + value.length);
      // Copied: a few kept attributes must not hold the whole zTOC in memory.
      records.set(key, new Uint8Array(value));
    }
    return records;
  }

  #spend(bytes: number): void {
    this.#budget -= bytes;
    if (this.#budget < 0) {
      throw new IndexError(
        'ERR_INDEX_LIMIT',
        `the strings of the zTOC are shared more than ${sharingFactor} times over its size`,
      );
    }
  }
}

function isSparse(pax: PaxRecords): boolean {
  for (const key of pax.keys()) {
    if (key.startsWith('GNU.sparse.')) return true;
  }
  return false;
}

function readDevice(table: FlatTable, slot: number, what: string): number {
  const value = table.int64(slot, what);
  if (value < 0 || value > 0xffff_ffff) throw formatError(`${what} is ${value}`);
  return value;
}
