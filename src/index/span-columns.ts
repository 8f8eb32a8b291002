import { formatError, limitError } from './errors.ts';
import { defaultIndexLimits, type IndexLimits } from './limits.ts';
import type { Span, SpanDecoder, SpanTable } from './layer-index.ts';

/** Bytes of a deflate window (RFC 1951 section 2). */
export const windowSize = 32_768;

/** Deflate cannot expand further than this (258 bytes from 2 bits). */
const deflateMaxRatio = 1032;
/** Nor zstd further than this (a block of 128 KiB from 4 bytes, RFC 8878 section 3.1.1.2). */
export const zstdMaxRatio = 32_768;

export interface SpanColumnsInit {
  readonly decoder: SpanDecoder;
  readonly blobSize: number;
  readonly streamSize: number;
  readonly openEnded: boolean;
  readonly spanSize: number;
  /** Stream offset where each span starts. */
  readonly streamStarts: Float64Array;
  /** First blob byte that belongs to a span alone, per span: `in` of a checkpoint. Neighbours may share the byte before. */
  readonly blobStarts: Float64Array;
  /** gzip-checkpoint only. */
  readonly bits?: Uint8Array | undefined;
  /** 32 bytes per span. */
  readonly sha256?: Uint8Array | undefined;
  window?(index: number, signal: AbortSignal | undefined): Promise<Uint8Array | undefined>;
  prepareWindows?(spans: readonly number[]): void;
}

/** A span table in typed arrays: some 60 bytes per span, windows left where they are. */
export class SpanColumns implements SpanTable {
  readonly decoder: SpanDecoder;
  readonly blobSize: number;
  readonly streamSize: number;
  readonly openEnded: boolean;
  readonly spanSize: number;
  readonly count: number;
  /** count + 1 stream offsets, the last is `streamSize`. */
  readonly streamStarts: Float64Array;
  readonly #init: SpanColumnsInit;

  /**
   * Errors: ERR_INDEX_FORMAT when the columns do not ascend, leave the blob or the stream, or claim more than their
   * compressed bytes can hold; ERR_INDEX_LIMIT. `what` names the source in messages.
   */
  constructor(init: SpanColumnsInit, what: string, limits: IndexLimits = defaultIndexLimits) {
    checkColumns(init, what, limits);
    this.decoder = init.decoder;
    this.blobSize = init.blobSize;
    this.streamSize = init.streamSize;
    this.openEnded = init.openEnded;
    this.spanSize = init.spanSize;
    this.count = init.streamStarts.length;
    this.streamStarts = new Float64Array(this.count + 1);
    this.streamStarts.set(init.streamStarts);
    this.streamStarts[this.count] = init.streamSize;
    this.#init = init;
  }

  span(index: number): Span {
    const { decoder, blobStarts, bits, sha256, blobSize } = this.#init;
    const start = blobStarts[index];
    if (start === undefined) throw new RangeError(`no span ${index}, there are ${this.count}`);
    const bitCount = bits?.[index] ?? 0;
    const whole = decoder === 'sequential';
    return {
      index,
      blobStart: whole ? 0 : start - (bitCount === 0 ? 0 : 1),
      blobEnd: whole ? blobSize : (blobStarts[index + 1] ?? blobSize),
      streamStart: this.streamStarts[index] as number,
      streamEnd: this.streamStarts[index + 1] as number,
      decoder,
      bits: bitCount,
      sha256: sha256?.subarray(32 * index, 32 * index + 32),
    };
  }

  spanAt(offset: number): number {
    if (!(offset >= 0 && offset < this.streamSize)) {
      throw new RangeError(`stream offset ${offset} is outside of 0..${this.streamSize}`);
    }
    let low = 0;
    let high = this.count - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.streamStarts[middle] as number) <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  async window(index: number, options?: { signal?: AbortSignal | undefined }): Promise<Uint8Array | undefined> {
    if (index < 0 || index >= this.count) throw new RangeError(`no span ${index}, there are ${this.count}`);
    if (index === 0 || this.decoder !== 'gzip-checkpoint') return undefined;
    options?.signal?.throwIfAborted();
    return this.#init.window?.(index, options?.signal);
  }

  prepareWindows(spans: readonly number[]): void {
    this.#init.prepareWindows?.(spans);
  }
}

function checkColumns(init: SpanColumnsInit, what: string, limits: IndexLimits): void {
  const { decoder, streamStarts, blobStarts, bits, sha256, streamSize, blobSize } = init;
  const count = streamStarts.length;
  if (count > limits.spans) throw limitError(`${what}: number of spans`, count, limits.spans);
  if (!isSize(streamSize) || !isSize(blobSize)) throw formatError(`${what}: blob or stream size is not a size`);
  if (streamSize > limits.streamBytes) throw limitError(`${what}: stream size`, streamSize, limits.streamBytes);
  if (count === 0 && streamSize > 0) throw formatError(`${what}: no spans for ${streamSize} bytes of stream`);
  if (blobStarts.length !== count || (bits !== undefined && bits.length !== count)) {
    throw formatError(`${what}: span columns differ in length`);
  }
  if (sha256 !== undefined && sha256.length !== 32 * count) {
    throw formatError(`${what}: ${sha256.length / 32} span digests for ${count} spans`);
  }
  if (count > 0 && streamStarts[0] !== 0)
    throw formatError(`${what}: the first span starts at ${streamStarts[0]}, not 0`);
  for (let i = 0; i < count; i++) {
    checkSpan(init, i, `${what}: span ${i}`, decoder);
  }
}

function checkSpan(init: SpanColumnsInit, i: number, what: string, decoder: SpanDecoder): void {
  const last = i === init.streamStarts.length - 1;
  const streamStart = init.streamStarts[i] as number;
  const streamEnd = last ? init.streamSize : (init.streamStarts[i + 1] as number);
  const blobStart = init.blobStarts[i] as number;
  const blobEnd = last ? init.blobSize : (init.blobStarts[i + 1] as number);
  const bits = init.bits?.[i] ?? 0;
  if (!isSize(streamStart) || !isSize(blobStart)) throw formatError(`${what} starts at no valid offset`);
  // Only the last span may hold nothing: a checkpoint can stand right at the end of what the index calls the stream.
  if (streamEnd < streamStart || (streamEnd === streamStart && !last)) {
    throw formatError(`${what} ends at stream offset ${streamEnd} but starts at ${streamStart}`);
  }
  // A layer of no bytes is one span of none.
  if (decoder === 'sequential' || (decoder === 'stored' && init.blobSize === 0)) return;
  if (blobEnd <= blobStart) throw formatError(`${what} ends at blob offset ${blobEnd} but starts at ${blobStart}`);
  if (bits > 7 || (bits > 0 && blobStart === 0))
    throw formatError(`${what} has ${bits} bits at blob offset ${blobStart}`);
  const blobBytes = blobEnd - blobStart + 1;
  if (decoder === 'stored' && streamEnd - streamStart !== blobEnd - blobStart) {
    throw formatError(`${what} is stored, but its blob and stream ranges differ in length`);
  }
  if (decoder.startsWith('gzip') && streamEnd - streamStart > blobBytes * deflateMaxRatio) {
    throw formatError(
      `${what} claims ${streamEnd - streamStart} bytes out of ${blobBytes}, more than deflate can hold`,
    );
  }
  if (decoder === 'zstd-frame' && streamEnd - streamStart > blobBytes * zstdMaxRatio) {
    throw formatError(`${what} claims ${streamEnd - streamStart} bytes out of ${blobBytes}, more than zstd can hold`);
  }
}

function isSize(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
