// The four forms in which GNU tar stores sparse files (GNU tar manual, "Storing Sparse Files"): the old GNU header with its
// extension blocks, and PAX 0.0, 0.1 (map in a record) and 1.0 (map as text at the start of the data area).
// Every form ends in a list of (file offset, length) whose data follow each other in the archive without gaps.
import { byteStringFrom, type ByteString } from '../util/byte-string.ts';
import type { Extent } from './entry.ts';
import { TAR_BLOCK } from './header.ts';
import { readNumber } from './numeric.ts';
import { paxInteger, type PaxRecords, SPARSE_MAP } from './pax.ts';

const SEGMENT = 24;
const NEWLINE = 0x0a;

/** What a sparse map says that is wrong; the reader turns it into an error with the entry's name. */
export class SparseMapError extends Error {}

/** File offset and length of each segment, in pairs. */
export type SparseMap = number[];

/** Which PAX sparse form `records` describe: the map is in a record (`record`) or in the data area (`data`). */
export function paxSparseForm(records: PaxRecords): 'record' | 'data' | undefined {
  const major = text(records, 'GNU.sparse.major');
  const minor = text(records, 'GNU.sparse.minor');
  if (major === '0' && (minor === '0' || minor === '1')) return 'record';
  if (major === '1' && minor === '0') return 'data';
  if (major !== '' || minor !== '') return undefined;
  return text(records, SPARSE_MAP) === '' ? undefined : 'record';
}

/** Name and expanded size (bytes) that the sparse records put in place of the header's. */
export function paxSparseFacts(records: PaxRecords, offset: number): { name: ByteString; size: number | undefined } {
  const size = records.get('GNU.sparse.size' as ByteString) ?? records.get('GNU.sparse.realsize' as ByteString);
  return {
    name: text(records, 'GNU.sparse.name'),
    size: size === undefined || size.length === 0 ? undefined : paxInteger('GNU.sparse.size', size, offset),
  };
}

/** The map of PAX 0.0 and 0.1: `offset,length,offset,length…`, of at most `limit` segments. */
export function parseRecordMap(records: PaxRecords, limit: number): SparseMap {
  const value = text(records, SPARSE_MAP);
  if (value === '') return [];
  const numbers = value.split(',');
  if (numbers.length % 2 !== 0) throw new SparseMapError('the sparse map has an offset without a length');
  checkCount(numbers.length / 2, limit);
  return numbers.map((number) => {
    if (!/^[0-9]{1,16}$/.test(number)) throw new SparseMapError('the sparse map holds something that is not a number');
    return Number(number);
  });
}

/**
 * Takes the segments of an old GNU header (4 at byte 386) or of one of its extension blocks (21 at byte 0) into `map`.
 * Returns true when another extension block follows.
 */
export function takeOldGnuSegments(
  buffer: Buffer,
  at: number,
  kind: 'header' | 'extension',
  map: SparseMap,
  limit: number,
): boolean {
  const start = at + (kind === 'header' ? 386 : 0);
  const count = kind === 'header' ? 4 : 21;
  for (let i = 0; i < count; i++) {
    const segment = start + i * SEGMENT;
    if (buffer[segment] === 0) break;
    const offset = readNumber(buffer, segment, 12);
    const size = readNumber(buffer, segment + 12, 12);
    if (offset === undefined || size === undefined)
      throw new SparseMapError('the sparse map holds something that is not a number');
    map.push(offset, size);
  }
  checkCount(map.length / 2, limit);
  return buffer[start + count * SEGMENT] !== 0;
}

/** The expanded size in bytes stated by an old GNU sparse header, or undefined when it is not a number. */
export function oldGnuRealSize(buffer: Buffer, at: number): number | undefined {
  return readNumber(buffer, at + 483, 12);
}

/** Reads the map of PAX 1.0 block by block: a count, then offset and length of each segment, one decimal number a line. */
export class DataMapParser {
  readonly map: SparseMap = [];
  readonly #limit: number;
  #expected = -1;
  #value = 0;
  #digits = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Takes the block at `at`; true when the map is complete (data begin with the next block). */
  take(buffer: Uint8Array, at: number): boolean {
    for (let i = at; i < at + TAR_BLOCK; i++) {
      const byte = buffer[i] as number;
      if (byte === NEWLINE) {
        if (this.#endNumber()) return true;
      } else {
        const digit = byte - 0x30;
        if (digit < 0 || digit > 9 || this.#digits === 16)
          throw new SparseMapError('the sparse map holds something that is not a number');
        this.#value = this.#value * 10 + digit;
        this.#digits++;
      }
    }
    return false;
  }

  #endNumber(): boolean {
    if (this.#digits === 0) throw new SparseMapError('the sparse map has an empty line');
    if (this.#expected === -1) {
      checkCount(this.#value, this.#limit);
      this.#expected = this.#value * 2;
    } else {
      this.map.push(this.#value);
    }
    this.#value = 0;
    this.#digits = 0;
    return this.map.length === this.#expected;
  }
}

/**
 * The extents of a sparse file of `size` bytes whose data, `stored` bytes, begin at `dataStart` of the stream.
 * Zero-length segments (GNU tar's end marker) are dropped, adjoining ones joined.
 */
export function sparseExtents(map: SparseMap, size: number, dataStart: number, stored: number): Extent[] {
  const extents: { fileOffset: number; streamOffset: number; size: number }[] = [];
  let fileEnd = 0;
  let streamOffset = dataStart;
  for (let i = 0; i < map.length; i += 2) {
    const fileOffset = map[i] as number;
    const length = map[i + 1] as number;
    if (fileOffset < 0 || length < 0 || !Number.isSafeInteger(fileOffset + length)) {
      throw new SparseMapError('the sparse map holds a number out of range');
    }
    if (fileOffset < fileEnd) throw new SparseMapError('the segments of the sparse map overlap or are not in order');
    if (fileOffset + length > size) throw new SparseMapError('the sparse map reaches past the end of the file');
    const last = extents.at(-1);
    if (last !== undefined && length > 0 && fileOffset === fileEnd) last.size += length;
    else if (length > 0) extents.push({ fileOffset, streamOffset, size: length });
    fileEnd = fileOffset + length;
    streamOffset += length;
  }
  if (streamOffset - dataStart !== stored) {
    throw new SparseMapError(
      `the sparse map speaks of ${streamOffset - dataStart} bytes of data, the archive has ${stored}`,
    );
  }
  return extents;
}

function checkCount(segments: number, limit: number): void {
  if (segments > limit) throw new SparseMapError(`the sparse map has more than ${limit} segments`);
}

function text(records: PaxRecords, key: string): ByteString {
  const value = records.get(key as ByteString);
  return value === undefined ? ('' as ByteString) : byteStringFrom(value);
}
