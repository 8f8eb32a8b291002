import { type ByteString, displayBytes } from '../util/byte-string.ts';
import { buildEntry, isMetaFlag, type Pending, storedSize } from './assemble.ts';
import type { TarEntry } from './entry.ts';
import { TarError } from './errors.ts';
import {
  DataMapParser,
  oldGnuRealSize,
  parseRecordMap,
  paxSparseForm,
  sparseExtents,
  SparseMapError,
  takeOldGnuSegments,
} from './gnu-sparse.ts';
import { isZeroBlock, parseHeader, TAR_BLOCK } from './header.ts';
import { noRecords, parsePaxRecords } from './pax.ts';
import { StreamCutter } from './stream-cutter.ts';

export interface TarReaderOptions {
  /** Stream offset of the first pushed byte; default 0. */
  readonly startOffset?: number;
  /** Largest PAX header or GNU long name, bytes; default 1 MiB, as Go's reader. */
  readonly maxMetaSize?: number;
  /** Most members; default 10 million. */
  readonly maxEntries?: number;
  /** Sum over all members of path, link and PAX record bytes; default 1 GiB. */
  readonly maxNameBytes?: number;
  /** Most segments of all sparse maps together; default 1 Mi. */
  readonly maxSparseSegments?: number;
}

export interface TarEnd {
  readonly entries: number;
  /** Stream offset behind the two zero blocks that end the archive, or where the stream ended without them. */
  readonly endOffset: number;
  /** Stream offset behind the last pushed byte: padding after the end is not looked at, but counted. */
  readonly streamSize: number;
}

/** What the next block is. */
type State = 'header' | 'sparse-extension' | 'sparse-map' | 'end';

const none: TarEntry[] = [];

/**
 * Reads a tar stream pushed in pieces of any size and yields its members; file data are passed over without a copy. Memory
 * does not grow with the archive, only with the largest PAX header.
 *
 * Formats: v7, ustar, star, PAX, GNU with long names, and every sparse form of GNU tar. Where tars disagree it follows Go's
 * archive/tar, because that is what other container tools extract with: PAX global headers are passed over, empty PAX
 * values ignored, sizes of links and other members without data ignored, GNU long names win over PAX paths.
 */
export class TarReader {
  readonly #maxMetaSize: number;
  readonly #maxEntries: number;
  readonly #maxSparseSegments: number;
  #nameBytesLeft: number;
  #sparseSegments = 0;
  readonly #cutter: StreamCutter;
  #state: State = 'header';
  /** Stream offset behind the latest member's data, padding not included; at the end, behind the archive. */
  #dataEnd = 0;
  #pending: Pending | undefined;
  #mapParser: DataMapParser | undefined;
  #afterZeroBlock = false;
  #entries = 0;
  #lastPath = '' as ByteString;
  #found = none;
  #failure: unknown;

  constructor(options: TarReaderOptions = {}) {
    this.#cutter = new StreamCutter(
      {
        onBlock: (buffer, at) => this.#onBlock(buffer, at),
        onBytes: (bytes) => this.#onMeta(bytes, this.#pending as Pending),
      },
      options.startOffset ?? 0,
    );
    this.#maxMetaSize = options.maxMetaSize ?? 1024 * 1024;
    this.#maxEntries = options.maxEntries ?? 10_000_000;
    this.#nameBytesLeft = options.maxNameBytes ?? 1024 ** 3;
    this.#maxSparseSegments = options.maxSparseSegments ?? 1024 * 1024;
  }

  /** True once the two zero blocks were seen; what follows is padding. */
  get ended(): boolean {
    return this.#state === 'end';
  }

  /**
   * Takes the next bytes of the stream; returns the members whose headers they complete, in archive order. Nothing of
   * `chunk` is kept.
   * Errors: TarError; after the first, every call throws it again.
   */
  push(chunk: Uint8Array): readonly TarEntry[] {
    if (this.#failure !== undefined) throw this.#failure;
    this.#found = none;
    try {
      this.#cutter.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    } catch (error) {
      this.#failure = error;
      throw error;
    }
    return this.#found;
  }

  /** How many of the next bytes are passed over: whoever can seek need not read them. Infinity behind the end of the archive. */
  get toSkip(): number {
    return this.#cutter.toSkip;
  }

  /** Takes `size` bytes, at most `toSkip`, as pushed. */
  advance(size: number): void {
    this.#cutter.advance(size);
  }

  /**
   * Declares the end of the stream. Missing end blocks and missing padding behind the last member are accepted.
   * Errors: ERR_TAR_TRUNCATED when a header or a member's data are cut off.
   */
  finish(): TarEnd {
    if (this.#failure !== undefined) throw this.#failure;
    const { position, partialBlock } = this.#cutter;
    if (this.#pending !== undefined) throw this.#truncated(`the headers of ${displayBytes(nameSoFar(this.#pending))}`);
    if (position < this.#dataEnd) throw this.#truncated(`the data of ${displayBytes(this.#lastPath)}`);
    if (partialBlock.some((byte) => byte !== 0)) throw this.#truncated('a header');
    const endOffset = this.#state === 'end' ? this.#dataEnd : position;
    return { entries: this.#entries, endOffset, streamSize: position };
  }

  #onBlock(buffer: Buffer, at: number): void {
    if (this.#state === 'header') this.#onHeader(buffer, at);
    else if (this.#state === 'sparse-extension') this.#onSparseExtension(buffer, at);
    else this.#onSparseMap(buffer, at);
  }

  #onHeader(buffer: Buffer, at: number): void {
    const offset = this.#cutter.position - TAR_BLOCK;
    if (buffer[at] === 0 && isZeroBlock(buffer, at)) {
      this.#onZeroBlock(offset);
      return;
    }
    if (this.#afterZeroBlock) {
      throw new TarError('ERR_TAR_HEADER', offset, 'damaged tar: a zero block is followed by something else');
    }
    const header = parseHeader(buffer, at, offset);
    const pending = (this.#pending ??= {
      headerOffset: offset,
      records: noRecords,
      longName: undefined,
      longLink: undefined,
      header,
      dataOffset: this.#cutter.position,
      map: [],
      realSize: undefined,
    });
    pending.header = header;
    pending.dataOffset = this.#cutter.position;
    if (isMetaFlag(header.flag)) {
      this.#onMetaHeader(pending, offset);
      return;
    }
    if (header.flag === 0x53) {
      this.#onOldGnuSparse(pending, buffer, at);
      return;
    }
    this.#onMember(pending);
  }

  #onZeroBlock(offset: number): void {
    if (this.#pending !== undefined) {
      throw new TarError(
        'ERR_TAR_HEADER',
        offset,
        'damaged tar: an extended header is followed by the end of the archive',
      );
    }
    if (this.#afterZeroBlock) {
      this.#state = 'end';
      this.#dataEnd = this.#cutter.position;
      this.#cutter.skipRest();
    }
    this.#afterZeroBlock = true;
  }

  /** `x`, `L` and `K` are collected; `g` and volume labels are passed over. */
  #onMetaHeader(pending: Pending, offset: number): void {
    const { flag, size } = pending.header;
    this.#checkSize(size, pending);
    if (flag === 0x67 || flag === 0x56) {
      if (pending.headerOffset === offset) this.#pending = undefined;
      this.#passOver(size);
      return;
    }
    if (size > this.#maxMetaSize) {
      throw new TarError(
        'ERR_TAR_LIMIT',
        offset,
        `PAX header or long name of ${size} bytes, more than ${this.#maxMetaSize}`,
      );
    }
    this.#charge(size, offset);
    this.#cutter.collect(size);
  }

  #onMeta(bytes: Buffer, pending: Pending): void {
    const { flag } = pending.header;
    if (flag === 0x4c) pending.longName = untilNul(bytes);
    else if (flag === 0x4b) pending.longLink = untilNul(bytes);
    else pending.records = parsePaxRecords(bytes, pending.dataOffset - TAR_BLOCK);
    this.#cutter.skip(paddingOf(bytes.length));
  }

  #onOldGnuSparse(pending: Pending, buffer: Buffer, at: number): void {
    if (pending.header.format !== 'gnu') {
      throw new TarError(
        'ERR_TAR_TYPE',
        pending.headerOffset,
        `tar entry ${displayBytes(pending.header.name)}: type 'S' outside the GNU format`,
      );
    }
    pending.realSize = oldGnuRealSize(buffer, at) ?? -1;
    this.#inSparseMap(pending, () => {
      const more = takeOldGnuSegments(buffer, at, 'header', pending.map, this.#segmentsLeft());
      if (more) this.#state = 'sparse-extension';
      else this.#onMember(pending);
    });
  }

  #onSparseExtension(buffer: Buffer, at: number): void {
    const pending = this.#pending as Pending;
    pending.dataOffset = this.#cutter.position;
    this.#inSparseMap(pending, () => {
      if (takeOldGnuSegments(buffer, at, 'extension', pending.map, this.#segmentsLeft())) return;
      this.#state = 'header';
      this.#onMember(pending);
    });
  }

  /** A member's headers are complete: its data follow, unless the sparse map comes first. */
  #onMember(pending: Pending): void {
    const stored = storedSize(pending);
    this.#checkSize(stored, pending);
    const form = pending.header.flag === 0x53 ? undefined : paxSparseForm(pending.records);
    if (form === 'data') {
      this.#mapParser = new DataMapParser(this.#segmentsLeft());
      this.#dataEnd = this.#cutter.position + stored;
      this.#state = 'sparse-map';
      return;
    }
    if (form === 'record') {
      this.#inSparseMap(pending, () => {
        pending.map = parseRecordMap(pending.records, this.#segmentsLeft());
      });
    }
    this.#complete(pending, stored, form === 'record' || pending.realSize !== undefined);
  }

  #onSparseMap(buffer: Buffer, at: number): void {
    const pending = this.#pending as Pending;
    const parser = this.#mapParser as DataMapParser;
    this.#inSparseMap(pending, () => {
      if (this.#cutter.position > this.#dataEnd)
        throw new SparseMapError('the sparse map reaches past the end of its data');
      if (!parser.take(buffer, at)) return;
      pending.map = parser.map;
      this.#mapParser = undefined;
      this.#complete(pending, this.#dataEnd - this.#cutter.position, true);
    });
  }

  #complete(pending: Pending, stored: number, sparse: boolean): void {
    if (++this.#entries > this.#maxEntries) {
      throw new TarError('ERR_TAR_LIMIT', pending.headerOffset, `more than ${this.#maxEntries} members`);
    }
    this.#sparseSegments += pending.map.length / 2;
    const dataStart = this.#cutter.position;
    const entry = buildEntry(pending, stored, sparse, (size) =>
      this.#inSparseMap(pending, () => sparseExtents(pending.map, size, dataStart, stored)),
    );
    this.#charge(entry.path.length + entry.link.length, pending.headerOffset);
    if (this.#found === none) this.#found = [];
    this.#found.push(entry);
    this.#lastPath = entry.path;
    this.#pending = undefined;
    this.#passOver(stored);
  }

  #passOver(size: number): void {
    this.#state = 'header';
    this.#dataEnd = this.#cutter.position + size;
    this.#cutter.skip(size + paddingOf(size));
  }

  #inSparseMap<T>(pending: Pending, work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof SparseMapError)) throw error;
      const name = displayBytes(pending.header.name);
      throw new TarError('ERR_TAR_SPARSE', pending.headerOffset, `tar entry ${name}: ${error.message}`, {
        cause: error,
      });
    }
  }

  #segmentsLeft(): number {
    return this.#maxSparseSegments - this.#sparseSegments;
  }

  #checkSize(size: number, pending: Pending): void {
    if (size >= 0 && Number.isSafeInteger(this.#cutter.position + size + TAR_BLOCK)) return;
    const name = displayBytes(pending.header.name);
    throw new TarError('ERR_TAR_HEADER', pending.headerOffset, `tar entry ${name}: impossible size ${size}`);
  }

  #charge(bytes: number, offset: number): void {
    this.#nameBytesLeft -= bytes;
    if (this.#nameBytesLeft < 0)
      throw new TarError('ERR_TAR_LIMIT', offset, 'the names and PAX records of the tar are too large');
  }

  #truncated(what: string): TarError {
    return new TarError('ERR_TAR_TRUNCATED', this.#cutter.position, `the tar stream ends inside ${what}`);
  }
}

/**
 * The members of a whole archive in memory.
 * Errors: TarError.
 */
export function readTar(bytes: Uint8Array, options?: TarReaderOptions): readonly TarEntry[] {
  const reader = new TarReader(options);
  const entries = reader.push(bytes);
  reader.finish();
  return entries;
}

function paddingOf(size: number): number {
  return (TAR_BLOCK - (size % TAR_BLOCK)) % TAR_BLOCK;
}

function nameSoFar({ longName, header }: Pending): ByteString {
  return longName ?? header.name;
}

function untilNul(bytes: Buffer): ByteString {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end === -1 ? bytes.length : end) as ByteString;
}
