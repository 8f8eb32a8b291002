// From a member's headers (PAX and long-name headers, then its own) to a TarEntry.
import { type ByteString, byteStringFrom, displayBytes } from '../util/byte-string.ts';
import type { EntryType, Extent, TarEntry } from './entry.ts';
import { TarError } from './errors.ts';
import { paxSparseFacts, type SparseMap } from './gnu-sparse.ts';
import { type Header, TAR_BLOCK } from './header.ts';
import { packRecords } from './packed-records.ts';
import { noRecords, paxInteger, type PaxRecords, paxTime } from './pax.ts';
import { noXattrs, xattrsOf } from './xattr-records.ts';

/** What is known of the member being read. */
export interface Pending {
  /** Stream offset of its first header block. */
  readonly headerOffset: number;
  records: PaxRecords;
  longName: ByteString | undefined;
  longLink: ByteString | undefined;
  /** The latest header block: at last the member's own. */
  header: Header;
  /** Stream offset behind the latest header block. */
  dataOffset: number;
  map: SparseMap;
  /** Expanded size stated by an old GNU sparse header. */
  realSize: number | undefined;
}

const EMPTY = '' as ByteString;
const noExtents: readonly Extent[] = [];

const typeOfFlag: ReadonlyMap<number, EntryType> = new Map([
  [0x00, 'file'],
  [0x30, 'file'],
  [0x31, 'hardlink'],
  [0x32, 'symlink'],
  [0x33, 'char'],
  [0x34, 'block'],
  [0x35, 'dir'],
  [0x36, 'fifo'],
  // Contiguous file: POSIX lets readers take it as an ordinary one.
  [0x37, 'file'],
  // GNU incremental dump: a directory whose data area lists its files.
  [0x44, 'dir'],
  [0x53, 'file'],
]);

/** Members that describe others or the archive: PAX `x` (Sun's `X`) and `g`, GNU long name `L`, long link `K`, volume `V`. */
export function isMetaFlag(flag: number): boolean {
  return flag === 0x78 || flag === 0x58 || flag === 0x67 || flag === 0x4c || flag === 0x4b || flag === 0x56;
}

/** Bytes the member occupies behind its headers, padding not included. May be negative in a damaged archive. */
export function storedSize(pending: Pending): number {
  const { header, records } = pending;
  // Links, devices, fifos and directories carry no data, whatever their size field says; '\0' and '/' mean a v7 directory.
  if (header.flag >= 0x31 && header.flag <= 0x36) return 0;
  if (header.flag === 0 && pathOf(pending).endsWith('/')) return 0;
  return records === noRecords ? header.size : (integer(records, 'size', pending) ?? header.size);
}

/**
 * The finished entry. `stored` is its data area in bytes (behind a PAX 1.0 map); for sparse members `extentsFor` makes the
 * extents from the expanded size.
 * Errors: ERR_TAR_PAX, ERR_TAR_TYPE, ERR_TAR_HEADER, ERR_TAR_SPARSE.
 */
export function buildEntry(
  pending: Pending,
  stored: number,
  sparse: boolean,
  extentsFor: (size: number) => readonly Extent[],
): TarEntry {
  const { header, records, headerOffset, dataOffset } = pending;
  const plain = records === noRecords;
  const path = pathOf(pending);
  const type = typeOf(pending, path);
  if (sparse && type !== 'file')
    throw failure('ERR_TAR_SPARSE', pending, 'a sparse map on something that is not a file');
  let size = type === 'file' ? stored : 0;
  let extents = noExtents;
  if (sparse) {
    size =
      pending.realSize ??
      paxSparseFacts(records, headerOffset).size ??
      integer(records, 'size', pending) ??
      header.size;
    if (!Number.isSafeInteger(size) || size < 0) throw failure('ERR_TAR_SPARSE', pending, 'impossible expanded size');
    extents = extentsFor(size);
  } else if (size > 0) {
    extents = [{ fileOffset: 0, streamOffset: dataOffset, size }];
  }
  const mtime = plain ? undefined : records.get('mtime' as ByteString);
  const time = mtime === undefined || mtime.length === 0 ? undefined : paxTime('mtime', mtime, headerOffset);
  return {
    path,
    type,
    mode: header.mode & 0o7777,
    ...(header.mode === (header.mode & 0o7777) || header.mode < 0 ? undefined : { rawMode: header.mode }),
    uid: owner(pending, 'uid', header.uid),
    gid: owner(pending, 'gid', header.gid),
    uname: plain ? header.uname : (text(records, 'uname') ?? header.uname),
    gname: plain ? header.gname : (text(records, 'gname') ?? header.gname),
    mtime: time === undefined ? header.mtime : time.seconds,
    mtimeNs: time === undefined ? 0 : time.nanoseconds,
    size,
    link: type === 'symlink' || type === 'hardlink' ? linkOf(pending) : EMPTY,
    devMajor: header.devMajor,
    devMinor: header.devMinor,
    xattrs: plain ? noXattrs : xattrsOf(records),
    pax: packRecords(records),
    extents,
    sparse,
    headerOffset,
    dataOffset,
  };
}

function typeOf(pending: Pending, path: ByteString): EntryType {
  const { flag } = pending.header;
  if (flag === 0 && path.endsWith('/')) return 'dir';
  const type = typeOfFlag.get(flag);
  if (type !== undefined) return type;
  const shown = flag > 0x20 && flag < 0x7f ? `'${String.fromCharCode(flag)}'` : `0x${flag.toString(16)}`;
  const why = flag === 0x4d ? ' (continued from another volume)' : '';
  throw failure('ERR_TAR_TYPE', pending, `unsupported member type ${shown}${why}`);
}

function pathOf({ longName, records, header, headerOffset }: Pending): ByteString {
  if (longName !== undefined) return longName;
  if (records === noRecords) return header.name;
  const sparseName = paxSparseFacts(records, headerOffset).name;
  return sparseName === EMPTY ? (text(records, 'path') ?? header.name) : sparseName;
}

function linkOf({ longLink, records, header }: Pending): ByteString {
  return longLink ?? text(records, 'linkpath') ?? header.link;
}

// The kernel has 32 bits; old tars wrote nobody as -2.
function owner(pending: Pending, key: 'uid' | 'gid', fromHeader: number): number {
  const id = pending.records === noRecords ? fromHeader : (integer(pending.records, key, pending) ?? fromHeader);
  if (id < -0x8000_0000 || id > 0xffff_ffff)
    throw failure('ERR_TAR_HEADER', pending, `${key} ${id} does not fit 32 bits`);
  return id < 0 ? id + 0x1_0000_0000 : id;
}

function integer(records: PaxRecords, key: string, pending: Pending): number | undefined {
  const value = records.get(key as ByteString);
  return value === undefined || value.length === 0 ? undefined : paxInteger(key, value, pending.headerOffset);
}

function text(records: PaxRecords, key: string): ByteString | undefined {
  const value = records.get(key as ByteString);
  return value === undefined || value.length === 0 ? undefined : byteStringFrom(value);
}

function failure(
  code: 'ERR_TAR_TYPE' | 'ERR_TAR_HEADER' | 'ERR_TAR_SPARSE',
  pending: Pending,
  detail: string,
): TarError {
  return new TarError(code, pending.dataOffset - TAR_BLOCK, `tar entry ${displayBytes(pathOf(pending))}: ${detail}`);
}
