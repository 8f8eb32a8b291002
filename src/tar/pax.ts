// PAX extended headers (POSIX.1-2017 pax, "Extended Header"): records `<length> <key>=<value>\n`, where the length counts
// the whole record in bytes. Keys and values are bytes: xattr values are binary, paths may be in any encoding.
import { byteStringFrom, type ByteString, bytesOf, displayBytes } from '../util/byte-string.ts';
import { TarError } from './errors.ts';

export type PaxRecords = ReadonlyMap<ByteString, Uint8Array>;

export const noRecords: PaxRecords = new Map();

const SPARSE_OFFSET = 'GNU.sparse.offset' as ByteString;
const SPARSE_NUMBYTES = 'GNU.sparse.numbytes' as ByteString;
export const SPARSE_MAP = 'GNU.sparse.map' as ByteString;

/**
 * The records in `bytes`, which are kept by reference. A later record replaces an earlier one of the same key, except that
 * GNU sparse 0.0's repeated offset/numbytes pairs come out as one `GNU.sparse.map` record, the way format 0.1 writes them.
 * `offset` is the stream offset of the extended header, for messages.
 * Errors: ERR_TAR_PAX.
 */
export function parsePaxRecords(bytes: Buffer, offset: number): PaxRecords {
  const records = new Map<ByteString, Uint8Array>();
  const sparse: string[] = [];
  let at = 0;
  while (at < bytes.length) {
    // NUL padding behind the last record is written by some tools and accepted by GNU tar.
    if (bytes[at] === 0) break;
    const { key, value, end } = parseRecord(bytes, at, offset);
    if (key === SPARSE_OFFSET || key === SPARSE_NUMBYTES) {
      if ((sparse.length % 2 === 0) !== (key === SPARSE_OFFSET))
        throw malformed(offset, 'sparse offsets and lengths do not alternate');
      sparse.push(value.toString('latin1'));
    } else {
      records.set(key, value);
    }
    at = end;
  }
  if (sparse.length > 0) records.set(SPARSE_MAP, Buffer.from(sparse.join(','), 'latin1'));
  return records;
}

function parseRecord(bytes: Buffer, at: number, offset: number): { key: ByteString; value: Buffer; end: number } {
  let length = 0;
  let i = at;
  for (; i < bytes.length && i < at + 8; i++) {
    const digit = (bytes[i] as number) - 0x30;
    if (digit < 0 || digit > 9) break;
    length = length * 10 + digit;
  }
  const end = at + length;
  if (i === at || bytes[i] !== 0x20 || end > bytes.length || end <= i + 1 || bytes[end - 1] !== 0x0a) {
    throw malformed(offset, `no record of the form "length key=value" at byte ${at}`);
  }
  const equals = bytes.indexOf(0x3d, i + 1);
  if (equals === -1 || equals === i + 1 || equals >= end - 1)
    throw malformed(offset, `record without a key at byte ${at}`);
  return { key: byteStringFrom(bytes.subarray(i + 1, equals)), value: bytes.subarray(equals + 1, end - 1), end };
}

/** One record as bytes; its length field counts its own digits. */
export function formatPaxRecord(key: ByteString, value: Uint8Array): Buffer {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length !== String(rest).length) length = rest + String(length).length;
  return Buffer.concat([bytesOf(`${length} ${key}=` as ByteString), value, Buffer.from('\n')]);
}

/**
 * A record's value as a whole number.
 * Errors: ERR_TAR_PAX when it is not decimal digits (with an optional minus sign) within a double's exact range.
 */
export function paxInteger(key: string, value: Uint8Array, offset: number): number {
  const text = byteStringFrom(value);
  const number = /^-?[0-9]{1,17}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw malformed(offset, `${key} is not a whole number: ${displayBytes(text)}`);
  return number;
}

/**
 * A time record: whole seconds rounded down, and nanoseconds within the second (further digits are dropped).
 * Errors: ERR_TAR_PAX.
 */
export function paxTime(key: string, value: Uint8Array, offset: number): { seconds: number; nanoseconds: number } {
  const text = byteStringFrom(value);
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(text);
  if (match === null) throw malformed(offset, `${key} is not a time: ${displayBytes(text)}`);
  const seconds = Number(match[2]);
  const nanoseconds = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  if (match[1] === '') return { seconds, nanoseconds };
  return nanoseconds === 0
    ? { seconds: seconds === 0 ? 0 : -seconds, nanoseconds: 0 }
    : { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}

function malformed(offset: number, detail: string): TarError {
  return new TarError('ERR_TAR_PAX', offset, `malformed PAX header: ${detail}`);
}
