import { addon } from './addon.ts';

export interface StreamIndexerOptions {
  readonly format: 'gzip' | 'stored';
  /** Stream bytes after which the next block boundary becomes a checkpoint; for `stored` the exact size of a span. */
  readonly spanSize: number;
  /** The stream is written here at its own offsets; -1: its bytes are not kept. Open until finish() or close(). */
  readonly dataFd: number;
  /** Stream bytes per span of a second, finer table, at least 4 KiB; 0 (default): none is made. */
  readonly fineSpanSize?: number | undefined;
}

/** The finer table. Columns: one element per span. */
export interface FineIndex {
  readonly in: Float64Array;
  readonly out: Float64Array;
  readonly bits: Uint8Array;
  readonly spanSha256: Buffer;
  /**
   * The sparse windows, a zstd frame each, one behind the other in the order of the spans. A frame decodes to the 32 768 bytes before
   * the span, with every byte that no back reference of the span reaches set to 0.
   */
  readonly frames: Buffer;
  /** Bytes of the span's frame; 0: no back reference of it reaches before its start. */
  readonly frameLengths: Uint32Array;
  /** 32 bytes each: sha256 of the span's frame, zeros when it has none. */
  readonly frameSha256: Buffer;
}

/** What one pass over a blob found. Columns: one element per span. */
export interface StreamIndex {
  readonly blobSize: number;
  readonly blobSha256: Buffer;
  readonly streamSize: number;
  /** sha256 of the stream: the diffID. */
  readonly streamSha256: Buffer;
  /** Stream bytes not handed out by push(): always none. */
  readonly tail: Uint8Array[];
  /** Blob offset of the first byte wholly behind the checkpoint. */
  readonly in: Float64Array;
  /** Stream offset of the checkpoint. */
  readonly out: Float64Array;
  /** High bits of blob byte `in - 1` that belong to the span. */
  readonly bits: Uint8Array;
  /** 32 768 bytes each: the stream before the checkpoint. Empty for `stored`. */
  readonly windows: Buffer;
  /** 32 bytes each: sha256 of blob bytes [in - (bits ? 1 : 0), next in), the last one to the end of the blob. */
  readonly spanSha256: Buffer;
  /** Undefined without `fineSpanSize`. */
  readonly fine: FineIndex | undefined;
}

/** What native/src/binding/stream_indexer.cpp exports; handles and chunks are opaque. */
interface Native {
  streamIndexerOpen(format: string, spanSize: number, dataFd: number, fineSpanSize: number): object;
  streamIndexerClose(handle: object): void;
  streamIndexerChunk(size: number): Chunk;
  streamIndexerPush(handle: object, blobBytes: Uint8Array): void;
  /** Bytes filled in; -1 minus them when what was pushed is used up. */
  streamIndexerPull(handle: object, chunk: object): Promise<number>;
  streamIndexerWritten(handle: object): number;
  streamIndexerFinish(handle: object): Promise<Omit<StreamIndex, 'tail'>>;
}

interface Chunk {
  readonly chunk: object;
  readonly bytes: Uint8Array;
}

/** Smallest `fineSpanSize`, bytes. */
export const leastFineSpan = 4 << 10;
const chunkSize = 256 * 1024;
/** Questions on their way to the inflating thread, so that it need not wait for this one. */
const depth = 2;
/** With a consumer, chunks go round: one being read here, one being hashed, `depth` being filled. */
const ringSize = depth + 2;

/**
 * The builder's single pass over a layer blob: inflates it, checks nothing but gzip's own checksums, notes a checkpoint by
 * SOCI's rule at the first block and at every block boundary more than `spanSize` bytes after the last, and hashes
 * blob, spans and stream. All of it on two native threads; memory is a few chunks and 32 KiB per span. The finer table follows a rule of
 * its own, which does not cut gzip members of up to `fineSpanSize` bytes of stream, and its windows are made on the threads for
 * decoding; memory for it is their frames.
 *
 * Rejects with ERR_INDEX_INFLATE (not gzip, or damaged), ERR_INDEX_TRAILING (something other than zeros after the last
 * member), ERR_INDEX_TRUNCATED, ERR_CLOSED, or an errno code when the stream could not be written.
 */
export class StreamIndexer {
  readonly #native = addon() as Native;
  readonly #handle: object;
  readonly #chunks: Chunk[] = [];
  #turn = 0;
  #busy = false;

  constructor(options: StreamIndexerOptions) {
    const { format, spanSize, dataFd, fineSpanSize = 0 } = options;
    if (!Number.isSafeInteger(spanSize) || spanSize < 1) throw new RangeError(`a span of ${spanSize} bytes`);
    const isFine = fineSpanSize === 0 || (Number.isSafeInteger(fineSpanSize) && fineSpanSize >= leastFineSpan);
    if (!isFine) throw new RangeError(`a fine span of ${fineSpanSize} bytes`);
    if (!Number.isInteger(dataFd) || dataFd < -1) throw new RangeError(`file descriptor ${dataFd}`);
    this.#handle = this.#native.streamIndexerOpen(format, spanSize, dataFd, fineSpanSize);
  }

  /**
   * Takes the next blob bytes and resolves to the stream bytes they give, in order, valid until the next push().
   * With `onStream` they go there instead, one chunk at a time and valid only inside the call, so that memory stays
   * bounded however well the blob is compressed. One call at a time.
   */
  async push(blobBytes: Uint8Array, onStream?: (bytes: Uint8Array) => void): Promise<Uint8Array[]> {
    if (this.#busy) throw Object.assign(new Error('a push() before the last one was done'), { code: 'ERR_BUSY' });
    this.#busy = true;
    const asked: { chunk: Chunk; filled: Promise<number> }[] = [];
    try {
      this.#native.streamIndexerPush(this.#handle, blobBytes);
      const out: Uint8Array[] = [];
      // Without a consumer two sets take turns: the last push's chunks may still be waiting to be hashed.
      this.#turn = onStream === undefined ? 1 - (this.#turn & 1) : this.#turn;
      let slot = onStream === undefined ? this.#turn : 0;
      for (let more = true; more || asked.length > 0; ) {
        const wanted = more ? depth : 0;
        while (asked.length < wanted) {
          const chunk = this.#chunk(slot);
          const filled = this.#native.streamIndexerPull(this.#handle, chunk.chunk);
          // Awaited below, but perhaps not before it fails.
          filled.catch(() => {});
          asked.push({ chunk, filled });
          slot = onStream === undefined ? slot + 2 : (slot + 1) % ringSize;
        }
        const next = asked.shift();
        if (next === undefined) break;
        const answer = await next.filled;
        more &&= answer >= 0;
        const bytes = next.chunk.bytes.subarray(0, answer < 0 ? -1 - answer : answer);
        if (bytes.length === 0) continue;
        if (onStream) onStream(bytes);
        else out.push(bytes);
      }
      return out;
    } finally {
      await Promise.allSettled(asked.map(({ filled }) => filled));
      this.#busy = false;
    }
  }

  /** Stream bytes, from the first on, that can be read from `dataFd`; 0 without one. After finish() all. Throws ERR_CLOSED. */
  get written(): number {
    return this.#native.streamIndexerWritten(this.#handle);
  }

  /** After the last push(): the index. Rejects with ERR_INDEX_TRUNCATED when the blob cannot end here. */
  async finish(): Promise<StreamIndex> {
    return { ...(await this.#native.streamIndexerFinish(this.#handle)), tail: [] };
  }

  /** Stops the threads; what still runs rejects with ERR_CLOSED. Idempotent. */
  close(): void {
    this.#native.streamIndexerClose(this.#handle);
  }

  #chunk(slot: number): Chunk {
    return (this.#chunks[slot] ??= this.#native.streamIndexerChunk(chunkSize));
  }
}
