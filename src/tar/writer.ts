// Entries to tar bytes: POSIX ustar headers, with a PAX header in front of what ustar cannot carry (POSIX.1-2017 pax).
import { type ByteString, byteStringFromText, bytesOf } from '../util/byte-string.ts';
import type { EntryType, TarEntry } from './entry.ts';
import { headerChecksum, TAR_BLOCK } from './header.ts';
import { writeOctal } from './numeric.ts';
import { formatPaxRecord } from './pax.ts';
import { formatXattrRecord } from './xattr-records.ts';

/** What a header says of a member. For hard links `size` is ignored. */
export type TarMember = Pick<
  TarEntry,
  | 'path'
  | 'type'
  | 'mode'
  | 'uid'
  | 'gid'
  | 'uname'
  | 'gname'
  | 'mtime'
  | 'mtimeNs'
  | 'size'
  | 'link'
  | 'devMajor'
  | 'devMinor'
  | 'xattrs'
>;

/** A run of data in a sparse file, bytes. */
export interface SparseSegment {
  readonly fileOffset: number;
  readonly size: number;
}

const flagOfType: Readonly<Record<EntryType, string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  char: '3',
  block: '4',
  dir: '5',
  fifo: '6',
};

/** The two zero blocks that end an archive. */
export const tarEnd: Buffer = Buffer.alloc(2 * TAR_BLOCK);

/** The zero bytes that must follow `size` bytes of data. */
export function tarPadding(size: number): Buffer {
  return tarEnd.subarray(0, (TAR_BLOCK - (size % TAR_BLOCK)) % TAR_BLOCK);
}

/** The header blocks of a member; its `size` bytes of data and their padding come next. */
export function formatTarHeader(member: TarMember): Buffer {
  return formatMember(member, member.type === 'file' ? member.size : 0, []);
}

/**
 * The header blocks and map of a sparse file in GNU's PAX 1.0 form. The segments' data come next, one behind the other,
 * then padding for their sum. All but the last segment's size must be multiples of 512, so that GNU tar reads it too.
 */
export function formatSparseHeader(member: TarMember, segments: readonly SparseSegment[]): Buffer {
  let map = `${segments.length + 1}\n`;
  let stored = 0;
  for (const segment of segments) {
    map += `${segment.fileOffset}\n${segment.size}\n`;
    stored += segment.size;
  }
  // GNU tar ends every map with an empty segment at the file's end, which tells it the size of a trailing hole.
  map += `${member.size}\n0\n`;
  const mapBlocks = Buffer.concat([Buffer.from(map), tarPadding(map.length)]);
  const records = [
    record('GNU.sparse.major', '1'),
    record('GNU.sparse.minor', '0'),
    formatPaxRecord('GNU.sparse.name' as ByteString, bytesOf(member.path)),
    record('GNU.sparse.realsize', String(member.size)),
  ];
  return Buffer.concat([formatMember(member, stored + mapBlocks.length, records), mapBlocks]);
}

function formatMember(member: TarMember, stored: number, records: Buffer[]): Buffer {
  const path = (member.type === 'dir' && !member.path.endsWith('/') ? `${member.path}/` : member.path) as ByteString;
  const block = Buffer.alloc(TAR_BLOCK);
  const sparse = records.length > 0;
  if (!writeName(block, path) && !sparse) records.push(formatPaxRecord('path' as ByteString, bytesOf(path)));
  if (!writeText(block, 157, 100, member.link))
    records.push(formatPaxRecord('linkpath' as ByteString, bytesOf(member.link)));
  writeNumber(block, 124, 12, stored, 'size', records);
  writeNumber(block, 108, 8, member.uid, 'uid', records);
  writeNumber(block, 116, 8, member.gid, 'gid', records);
  writeTime(block, member, records);
  if (!writeText(block, 265, 32, member.uname))
    records.push(formatPaxRecord('uname' as ByteString, bytesOf(member.uname)));
  if (!writeText(block, 297, 32, member.gname))
    records.push(formatPaxRecord('gname' as ByteString, bytesOf(member.gname)));
  for (const [name, value] of member.xattrs) records.push(formatXattrRecord(name, value));
  writeOctal(block, 100, 8, member.mode);
  writeOctal(block, 329, 8, member.devMajor);
  writeOctal(block, 337, 8, member.devMinor);
  seal(block, flagOfType[member.type]);
  return records.length === 0 ? block : Buffer.concat([formatPaxHeader(path, records), block]);
}

function formatPaxHeader(path: ByteString, records: readonly Buffer[]): Buffer {
  const body = Buffer.concat(records);
  const block = Buffer.alloc(TAR_BLOCK);
  const base = path.replace(/\/+$/, '');
  writeText(block, 0, 100, `PaxHeaders/${base.slice(base.lastIndexOf('/') + 1)}`.slice(0, 99) as ByteString);
  writeOctal(block, 100, 8, 0o644);
  writeOctal(block, 108, 8, 0);
  writeOctal(block, 116, 8, 0);
  writeOctal(block, 124, 12, body.length);
  writeOctal(block, 136, 12, 0);
  seal(block, 'x');
  return Buffer.concat([block, body, tarPadding(body.length)]);
}

function seal(block: Buffer, flag: string): void {
  block.write(flag, 156, 'latin1');
  block.write('ustar\u000000', 257, 'latin1');
  writeOctal(block, 148, 7, headerChecksum(block, 0));
  block[155] = 0x20;
}

/** Writes the path into name and prefix; false (and a shortened name) when it fits neither way. */
function writeName(block: Buffer, path: ByteString): boolean {
  if (writeText(block, 0, 100, path)) return true;
  // Behind the first slash that leaves at most 100 bytes; a directory's own trailing slash must stay with its name.
  const split = path.indexOf('/', path.length - 101);
  if (split > 0 && split <= 155 && split < path.length - 1) {
    block.fill(0, 0, 100);
    block.write(path.slice(split + 1), 0, 'latin1');
    block.write(path.slice(0, split), 345, 'latin1');
    return true;
  }
  return false;
}

/** Writes as much of `value` as fits; false when that is not all. */
function writeText(block: Buffer, at: number, length: number, value: ByteString): boolean {
  block.write(value.slice(0, length), at, 'latin1');
  return value.length <= length;
}

function writeNumber(block: Buffer, at: number, length: number, value: number, key: string, records: Buffer[]): void {
  if (writeOctal(block, at, length, value)) return;
  writeOctal(block, at, length, 0);
  records.push(record(key, String(value)));
}

function writeTime(block: Buffer, { mtime, mtimeNs }: TarMember, records: Buffer[]): void {
  if (writeOctal(block, 136, 12, mtime) && mtimeNs === 0) return;
  if (mtime < 0) writeOctal(block, 136, 12, 0);
  records.push(record('mtime', formatTime(mtime, mtimeNs)));
}

// The record is a decimal fraction; seconds are rounded down, so -1 s + 250 ms is -0.75.
function formatTime(seconds: number, nanoseconds: number): string {
  if (nanoseconds === 0) return String(seconds);
  const negative = seconds < 0;
  const whole = negative ? -seconds - 1 : seconds;
  const fraction = negative ? 1_000_000_000 - nanoseconds : nanoseconds;
  return `${negative ? '-' : ''}${whole}.${String(fraction).padStart(9, '0').replace(/0+$/, '')}`;
}

function record(key: string, value: string): Buffer {
  return formatPaxRecord(key as ByteString, bytesOf(byteStringFromText(value)));
}
