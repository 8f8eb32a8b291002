// One 512-byte header block: v7, POSIX ustar, star and GNU layouts.
//
//   0 name 100 · 100 mode 8 · 108 uid 8 · 116 gid 8 · 124 size 12 · 136 mtime 12 · 148 checksum 8 · 156 type 1
//   157 linkname 100 · 257 magic 6 · 263 version 2 · 265 uname 32 · 297 gname 32 · 329 devmajor 8 · 337 devminor 8
//   345 prefix 155 (ustar) | prefix 131, atime 12, ctime 12, 508 "tar\0" (star) | atime 12, ctime 12, … sparse map (GNU)
import { type ByteString, displayBytes } from '../util/byte-string.ts';
import { TarError } from './errors.ts';
import { readNumber } from './numeric.ts';

export const TAR_BLOCK = 512;
const EMPTY = '' as ByteString;

export type HeaderFormat = 'v7' | 'ustar' | 'star' | 'gnu';

/** The fields of one header block as they stand there, before PAX and long names are applied. */
export interface Header {
  readonly format: HeaderFormat;
  readonly name: ByteString;
  readonly link: ByteString;
  /** The type flag byte. */
  readonly flag: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes in the data area, as stated. */
  readonly size: number;
  readonly mtime: number;
  readonly uname: ByteString;
  readonly gname: ByteString;
  readonly devMajor: number;
  readonly devMinor: number;
}

/** True when the block at `at` is all zero bytes: the mark of the archive's end. */
export function isZeroBlock(buffer: Uint8Array, at: number): boolean {
  for (let i = at; i < at + TAR_BLOCK; i++) if (buffer[i] !== 0) return false;
  return true;
}

/**
 * Parses the header block at `buffer[at, at + 512)`, which stands at `offset` of the stream.
 * Errors: ERR_TAR_HEADER for a wrong checksum or a number field that is not a number.
 */
export function parseHeader(buffer: Buffer, at: number, offset: number): Header {
  checkChecksum(buffer, at, offset);
  const format = formatOf(buffer, at);
  const flag = buffer[at + 156] as number;
  const name = nameOf(buffer, at, format);
  const device = format !== 'v7' && (flag === 0x33 || flag === 0x34);
  const number = (field: string, start: number, length: number): number => {
    const value = readNumber(buffer, at + start, length);
    if (value === undefined) {
      throw new TarError(
        'ERR_TAR_HEADER',
        offset,
        `tar entry ${displayBytes(name)}: the ${field} field is not a number`,
      );
    }
    return value;
  };
  return {
    format,
    name,
    link: field(buffer, at + 157, 100),
    flag,
    mode: number('mode', 100, 8),
    uid: number('uid', 108, 8),
    gid: number('gid', 116, 8),
    size: number('size', 124, 12),
    mtime: number('mtime', 136, 12),
    uname: format === 'v7' ? EMPTY : field(buffer, at + 265, 32),
    gname: format === 'v7' ? EMPTY : field(buffer, at + 297, 32),
    devMajor: device ? number('device major', 329, 8) : 0,
    devMinor: device ? number('device minor', 337, 8) : 0,
  };
}

/** The sum that belongs into the header's checksum field: all bytes, that field taken as spaces. */
export function headerChecksum(buffer: Uint8Array, at: number): number {
  let sum = 8 * 0x20;
  for (let i = at; i < at + 148; i++) sum += buffer[i] as number;
  for (let i = at + 156; i < at + TAR_BLOCK; i++) sum += buffer[i] as number;
  return sum;
}

function checkChecksum(buffer: Uint8Array, at: number, offset: number): void {
  const stated = readNumber(buffer, at + 148, 8);
  const sum = headerChecksum(buffer, at);
  if (stated === sum) return;
  // Historic tars summed signed chars.
  let negative = 0;
  for (let i = at; i < at + TAR_BLOCK; i++) {
    if ((i < at + 148 || i >= at + 156) && (buffer[i] as number) > 127) negative++;
  }
  if (stated === sum - 256 * negative) return;
  throw new TarError('ERR_TAR_HEADER', offset, 'not a tar header: the checksum does not match');
}

function formatOf(buffer: Buffer, at: number): HeaderFormat {
  // "ustar"
  if (buffer.readUInt32BE(at + 257) !== 0x75737461 || buffer[at + 261] !== 0x72) return 'v7';
  // "ustar  \0" is GNU's magic and version together.
  if (buffer[at + 262] === 0x20) return buffer[at + 263] === 0x20 && buffer[at + 264] === 0 ? 'gnu' : 'v7';
  if (buffer[at + 262] !== 0) return 'v7';
  return buffer.readUInt32BE(at + 508) === 0x74617200 ? 'star' : 'ustar';
}

function nameOf(buffer: Buffer, at: number, format: HeaderFormat): ByteString {
  const name = field(buffer, at, 100);
  if (format === 'v7') return name;
  let prefix = EMPTY;
  if (format === 'ustar') prefix = field(buffer, at + 345, 155);
  else if (format === 'star') prefix = field(buffer, at + 345, 131);
  else if (!holdsGnuTimes(buffer, at)) prefix = asciiOnly(field(buffer, at + 345, 155));
  return prefix === EMPTY ? name : (`${prefix}/${name}` as ByteString);
}

// Go before 1.8 wrote a ustar prefix into GNU headers, where atime and ctime belong; Docker images of that time have them.
function holdsGnuTimes(buffer: Uint8Array, at: number): boolean {
  for (const start of [at + 345, at + 357]) {
    if (buffer[start] !== 0 && readNumber(buffer, start, 12) === undefined) return false;
  }
  return true;
}

function asciiOnly(value: ByteString): ByteString {
  return /^[\x20-\x7e]*$/.test(value) ? value : EMPTY;
}

/** The bytes of a text field up to its first NUL. */
function field(buffer: Buffer, at: number, length: number): ByteString {
  let end = at;
  while (end < at + length && buffer[end] !== 0) end++;
  return end === at ? EMPTY : (buffer.toString('latin1', at, end) as ByteString);
}
