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

type State =
  | 'header'
  /** Collecting a PAX header or a long name. */
  | 'meta'
  /** Passing over data and padding. */
  | 'skip'
  | 'sparse-extension'
  | 'sparse-map'
  | 'end';

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
  #state: State = 'header';
  /** Stream offset of the next byte to take. */
  #position: number;
  /** Bytes still to pass over in state `skip`. */
  #skip = 0;
  /** Stream offset behind the current member's data, padding not included. */
  #dataEnd = 0;
  readonly #block = Buffer.alloc(TAR_BLOCK);
  #blockFill = 0;
  #meta = Buffer.alloc(0);
  #metaFill = 0;
  #pending: Pending | undefined;
  #mapParser: DataMapParser | undefined;
  #afterZeroBlock = false;
  #entries = 0;
  #lastPath = '' as ByteString;
  #found = none;
  #failure: unknown;

  constructor(options: TarReaderOptions = {}) {
    this.#position = options.startOffset ?? 0;
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
      this.#take(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    } catch (error) {
      this.#failure = error;
      throw error;
    }
    return this.#found;
  }

  /**
   * Declares the end of the stream. Missing end blocks and missing padding behind the last member are accepted.
   * Errors: ERR_TAR_TRUNCATED when a header or a member's data are cut off.
   */
  finish(): TarEnd {
    if (this.#failure !== undefined) throw this.#failure;
    const cut = this.#position < this.#dataEnd;
    if (cut) throw this.#truncated(`the data of ${displayBytes(this.#lastPath)}`);
    if (this.#pending !== undefined) throw this.#truncated('a member whose extended header is there');
    if (this.#blockFill > 0 && this.#block.subarray(0, this.#blockFill).some((byte) => byte !== 0)) {
      throw this.#truncated('a header');
    }
    return {
      entries: this.#entries,
      endOffset: this.#state === 'end' ? this.#dataEnd : this.#position,
      streamSize: this.#position,
    };
  }

  #take(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      const available = chunk.length - at;
      let taken: number;
      switch (this.#state) {
        case 'skip':
          taken = Math.min(this.#skip, available);
          this.#skip -= taken;
          this.#position += taken;
          if (this.#skip === 0) this.#state = 'header';
          break;
        case 'end':
          taken = available;
          this.#position += taken;
          break;
        case 'meta':
          taken = this.#takeMeta(chunk, at);
          break;
        default:
          taken = this.#takeBlock(chunk, at);
      }
      at += taken;
    }
  }

  #takeBlock(chunk: Buffer, at: number): number {
    if (this.#blockFill === 0 && chunk.length - at >= TAR_BLOCK) {
      this.#position += TAR_BLOCK;
      this.#onBlock(chunk, at);
      return TAR_BLOCK;
    }
    const taken = chunk.copy(this.#block, this.#blockFill, at, at + TAR_BLOCK - this.#blockFill);
    this.#blockFill += taken;
    this.#position += taken;
    if (this.#blockFill === TAR_BLOCK) {
      this.#blockFill = 0;
      this.#onBlock(this.#block, 0);
    }
    return taken;
  }

  #onBlock(buffer: Buffer, at: number): void {
    if (this.#state === 'header') this.#onHeader(buffer, at);
    else if (this.#state === 'sparse-extension') this.#onSparseExtension(buffer, at);
    else this.#onSparseMap(buffer, at);
  }

  #onHeader(buffer: Buffer, at: number): void {
    const offset = this.#position - TAR_BLOCK;
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
      dataOffset: this.#position,
      map: [],
      realSize: undefined,
    });
    pending.header = header;
    pending.dataOffset = this.#position;
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
      this.#dataEnd = this.#position;
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
    this.#meta = Buffer.allocUnsafe(size);
    this.#metaFill = 0;
    if (size === 0) this.#onMeta(pending);
    else this.#state = 'meta';
    this.#dataEnd = this.#position + size;
  }

  #takeMeta(chunk: Buffer, at: number): number {
    const taken = chunk.copy(this.#meta, this.#metaFill, at);
    this.#metaFill += taken;
    this.#position += taken;
    if (this.#metaFill === this.#meta.length) this.#onMeta(this.#pending as Pending);
    return taken;
  }

  #onMeta(pending: Pending): void {
    const offset = pending.dataOffset - TAR_BLOCK;
    const { flag } = pending.header;
    if (flag === 0x4c) pending.longName = untilNul(this.#meta);
    else if (flag === 0x4b) pending.longLink = untilNul(this.#meta);
    else pending.records = parsePaxRecords(this.#meta, offset);
    const padding = paddingOf(this.#meta.length);
    this.#skip = padding;
    this.#state = padding === 0 ? 'header' : 'skip';
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
    pending.dataOffset = this.#position;
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
      this.#dataEnd = this.#position + stored;
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
      if (this.#position > this.#dataEnd) throw new SparseMapError('the sparse map reaches past the end of its data');
      if (!parser.take(buffer, at)) return;
      pending.map = parser.map;
      this.#mapParser = undefined;
      this.#complete(pending, this.#dataEnd - this.#position, true);
    });
  }

  #complete(pending: Pending, stored: number, sparse: boolean): void {
    if (++this.#entries > this.#maxEntries) {
      throw new TarError('ERR_TAR_LIMIT', pending.headerOffset, `more than ${this.#maxEntries} members`);
    }
    this.#sparseSegments += pending.map.length / 2;
    const dataStart = this.#position;
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
    this.#dataEnd = this.#position + size;
    this.#skip = size + paddingOf(size);
    this.#state = this.#skip === 0 ? 'header' : 'skip';
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
    if (size >= 0 && Number.isSafeInteger(this.#position + size + TAR_BLOCK)) return;
    const name = displayBytes(pending.header.name);
    throw new TarError('ERR_TAR_HEADER', pending.headerOffset, `tar entry ${name}: impossible size ${size}`);
  }

  #charge(bytes: number, offset: number): void {
    this.#nameBytesLeft -= bytes;
    if (this.#nameBytesLeft < 0)
      throw new TarError('ERR_TAR_LIMIT', offset, 'the names and PAX records of the tar are too large');
  }

  #truncated(what: string): TarError {
    return new TarError('ERR_TAR_TRUNCATED', this.#position, `the tar stream ends inside ${what}`);
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

function untilNul(bytes: Buffer): ByteString {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end === -1 ? bytes.length : end) as ByteString;
}
