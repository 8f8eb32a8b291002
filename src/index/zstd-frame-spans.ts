import { createHash, type Hash } from 'node:crypto';

/** Where spans of whole zstd frames begin, and what they are. Columns: one element per span. */
export interface FrameSpans {
  readonly blobStarts: Float64Array;
  readonly streamStarts: Float64Array;
  /** 32 bytes each: sha256 of the span's blob bytes. */
  readonly sha256: Uint8Array;
}

/** Where a span may begin, the digest of the one before, and its own so far. */
interface NextSpan {
  readonly blob: number;
  readonly stream: number;
  readonly digest: Buffer;
  readonly hash: Hash;
}

/** Most bytes of stream that are decoded in one piece. */
const maxSpanBytes = 32 << 20;
/** Frames that hold nothing cost a reader as much as those that hold something. */
const maxSpanBlobBytes = 2 * maxSpanBytes;

/**
 * Cuts a blob of zstd frames into spans as it is decoded. A span begins with the blob, and at the end of a frame that is more than
 * `spanSize` stream bytes behind the beginning of the last span, if any stream bytes follow.
 */
export class ZstdFrameSpans {
  readonly #spanSize: number;
  readonly #blobStarts: number[] = [0];
  readonly #streamStarts: number[] = [0];
  readonly #digests: Buffer[] = [];
  #hash = createHash('sha256');
  /** The end of a frame where a span begins as soon as there is a byte for it. */
  #next: NextSpan | undefined;
  #blob = 0;
  #stream = 0;
  /** Frames that hold at least one byte. */
  #frames = 0;
  #frameStart = 0;
  #tooLarge = false;

  constructor(spanSize: number) {
    this.#spanSize = spanSize;
  }

  /** The decoder took `blobBytes` and gave `streamBytes` bytes for them; `frameEnded`: and stands behind a frame now. */
  step(blobBytes: Uint8Array, streamBytes: number, frameEnded: boolean): void {
    if (streamBytes > 0 && this.#next !== undefined) this.#begin(this.#next);
    this.#hash.update(blobBytes);
    this.#next?.hash.update(blobBytes);
    this.#blob += blobBytes.length;
    this.#stream += streamBytes;
    if (frameEnded) this.#endFrame();
  }

  /** After the last step: the spans, or why there are none. */
  finish(): { readonly spans: FrameSpans; readonly obstacle: undefined } | { readonly obstacle: string } {
    this.#measure(this.#blob, this.#stream);
    if (this.#frames < 2) return { obstacle: 'it is a single zstd frame, which cannot be read in part' };
    if (this.#tooLarge) return { obstacle: 'its zstd frames are too large to read in part' };
    return {
      obstacle: undefined,
      spans: {
        blobStarts: Float64Array.from(this.#blobStarts),
        streamStarts: Float64Array.from(this.#streamStarts),
        sha256: Buffer.concat([...this.#digests, this.#hash.digest()]),
      },
    };
  }

  #endFrame(): void {
    if (this.#stream > this.#frameStart) this.#frames += 1;
    this.#frameStart = this.#stream;
    if (this.#next !== undefined || this.#stream - (this.#streamStarts.at(-1) ?? 0) <= this.#spanSize) return;
    const digest = this.#hash.copy().digest();
    this.#next = { blob: this.#blob, stream: this.#stream, digest, hash: createHash('sha256') };
  }

  #begin({ blob, stream, digest, hash }: NextSpan): void {
    this.#measure(blob, stream);
    this.#blobStarts.push(blob);
    this.#streamStarts.push(stream);
    this.#digests.push(digest);
    this.#hash = hash;
    this.#next = undefined;
  }

  #measure(blobEnd: number, streamEnd: number): void {
    this.#tooLarge ||=
      streamEnd - (this.#streamStarts.at(-1) ?? 0) > maxSpanBytes ||
      blobEnd - (this.#blobStarts.at(-1) ?? 0) > maxSpanBlobBytes;
  }
}
