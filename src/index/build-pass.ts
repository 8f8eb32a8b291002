import { createHash } from 'node:crypto';
import type { StreamIndexer } from '../native/stream-indexer.ts';
import type { TarEntry } from '../tar/entry.ts';
import { TarReader } from '../tar/reader.ts';
import { readAhead } from '../util/read-ahead.ts';
import { IndexError } from './errors.ts';
import type { BuildOptions, DecodeBlob } from './layer-build.ts';
import { defaultIndexLimits } from './limits.ts';
import { ZstdFrameSpans } from './zstd-frame-spans.ts';
import { ZstdSlices } from './zstd-slices.ts';

export type Finished = Awaited<ReturnType<StreamIndexer['finish']>>;

export interface BlobFacts {
  readonly blobSize: number;
  readonly blobSha256: Buffer;
  /** Of a zstd blob that we decoded with fine spans asked for: spans of whole frames, or why there are none. */
  readonly frames?: ReturnType<ZstdFrameSpans['finish']> | undefined;
}

/** Most bytes handed to the indexer at once: each push is a copy and some trips between threads. */
const pieceSize = 1 << 20;
/** Stream bytes up to which a layer may be packed as well as it likes: an empty disk image is no bomb. */
const freeOfRatio = 64 << 20;

/** One run of blob bytes through the indexer and its output through the tar reader. */
export class BuildPass {
  readonly entries: TarEntry[] = [];
  readonly tar: TarReader;
  readonly #indexer: StreamIndexer;
  readonly #options: BuildOptions;
  #blobBytes = 0;
  #streamBytes = 0;
  #written = 0;

  constructor(indexer: StreamIndexer, options: BuildOptions) {
    this.#indexer = indexer;
    this.#options = options;
    this.tar = new TarReader({ maxEntries: options.maxEntries ?? defaultIndexLimits.entries });
  }

  /** The blob as it is. */
  async direct(source: AsyncIterable<Uint8Array>): Promise<undefined> {
    for await (const piece of readAhead(source, pieceSize)) {
      this.#account(piece);
      await this.#push(piece);
    }
  }

  /** The indexer sees the decoded stream, so what is to know of the blob itself is found here. */
  async zstd(source: AsyncIterable<Uint8Array>): Promise<BlobFacts> {
    const hash = createHash('sha256');
    const { fineSpanSize } = this.#options;
    const spans = fineSpanSize === undefined ? undefined : new ZstdFrameSpans(fineSpanSize);
    const decoder = new ZstdSlices({ onStep: spans && ((...step) => spans.step(...step)) });
    for await (const piece of readAhead(source, pieceSize)) {
      this.#account(piece);
      hash.update(piece);
      await this.#pushAll(decoder.decode(piece));
    }
    decoder.finish();
    return { blobSize: this.#blobBytes, blobSha256: hash.digest(), frames: spans?.finish() };
  }

  /** The same with a decoder that is not ours. */
  async decoded(source: AsyncIterable<Uint8Array>, decode: DecodeBlob): Promise<BlobFacts> {
    const hash = createHash('sha256');
    const account = (piece: Uint8Array) => {
      this.#account(piece);
      hash.update(piece);
    };
    async function* counted(): AsyncGenerator<Uint8Array> {
      for await (const piece of readAhead(source, pieceSize)) {
        account(piece);
        yield piece;
      }
    }
    for await (const piece of readAhead(decode(counted()), pieceSize)) await this.#push(piece);
    return { blobSize: this.#blobBytes, blobSha256: hash.digest() };
  }

  async finish(): Promise<Finished> {
    const finished = await this.#indexer.finish();
    for (const piece of finished.tail) this.#read(piece);
    this.#tellWritten(finished.streamSize);
    this.#options.signal?.throwIfAborted();
    return finished;
  }

  #account(piece: Uint8Array): void {
    this.#options.signal?.throwIfAborted();
    this.#blobBytes += piece.length;
    const expected = this.#options.blobSize;
    if (expected !== undefined && this.#blobBytes > expected) {
      throw new IndexError('ERR_INDEX_BLOB_SIZE', `layer blob has more than the ${expected} bytes it should have`);
    }
  }

  async #push(bytes: Uint8Array): Promise<void> {
    await this.#indexer.push(bytes, (piece) => this.#read(piece));
    this.#tellWritten(this.#indexer.written);
    this.#options.signal?.throwIfAborted();
    this.#options.onProgress?.({
      blobBytes: this.#blobBytes,
      streamBytes: this.#streamBytes,
      entries: this.entries.length,
    });
  }

  /** A piece is made while the one before is hashed and written. Its memory may be used again once it was pushed. */
  async #pushAll(pieces: Iterable<Uint8Array>): Promise<void> {
    let behind: Promise<void> | undefined;
    try {
      for (const piece of pieces) {
        await behind;
        behind = this.#push(piece);
      }
    } catch (error) {
      await behind?.catch(() => {});
      throw error;
    }
    await behind;
  }

  #read(piece: Uint8Array): void {
    this.#streamBytes += piece.length;
    this.#checkSize();
    const found = this.tar.push(piece);
    if (found.length === 0) return;
    for (const entry of found) this.entries.push(entry);
    this.#options.onEntries?.(found);
  }

  #checkSize(): void {
    const { maxStreamBytes = defaultIndexLimits.streamBytes, maxRatio = Infinity } = this.#options;
    if (this.#streamBytes > maxStreamBytes) {
      throw new IndexError('ERR_INDEX_LIMIT', `layer decodes to more than ${maxStreamBytes} bytes`);
    }
    if (this.#streamBytes > freeOfRatio && this.#streamBytes > maxRatio * this.#blobBytes) {
      throw new IndexError(
        'ERR_INDEX_LIMIT',
        `layer decodes to ${this.#streamBytes} bytes of its first ${this.#blobBytes}, more than ${maxRatio} times as many`,
      );
    }
  }

  #tellWritten(offset: number): void {
    if (offset <= this.#written) return;
    this.#written = offset;
    this.#options.onWritten?.(offset);
  }
}
