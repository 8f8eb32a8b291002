import type { TarEntry } from '../tar/entry.ts';

/**
 * How a span's stream bytes come from its blob bytes.
 * - `gzip-checkpoint`: raw inflate from `bits` and a 32 KiB window (SOCI zTOC and our own index).
 * - `gzip-member`: the span is one or more whole gzip members.
 * - `zstd-frame`: the span is one or more whole zstd frames.
 * - `stored`: blob bytes are stream bytes.
 * - `sequential`: no random access (a zstd layer in one frame): reached only by decoding the blob from its start; the blob
 *   range of such a span is the whole blob.
 */
export type SpanDecoder = 'gzip-checkpoint' | 'gzip-member' | 'zstd-frame' | 'stored' | 'sequential';

export interface Span {
  readonly index: number;
  /** Half-open range of the layer blob, bytes. Neighbours share one byte when `bits` is not 0. */
  readonly blobStart: number;
  readonly blobEnd: number;
  /** Half-open range of the layer stream, bytes. The last span may be longer than stated: see `SpanTable.openEnded`. */
  readonly streamStart: number;
  readonly streamEnd: number;
  readonly decoder: SpanDecoder;
  /** gzip-checkpoint: 0..7, how many high bits of the first byte belong to this span's first block. */
  readonly bits: number;
  /** sha256 of blob bytes [blobStart, blobEnd), 32 bytes, or undefined when the format has none. */
  readonly sha256: Uint8Array | undefined;
}

/** Ascending spans covering the stream without gaps. Columns, not objects: a 10 GB layer has 40 000 spans. */
export interface SpanTable {
  readonly count: number;
  readonly blobSize: number;
  /** Bytes of the stream as stated by the index. */
  readonly streamSize: number;
  /** The index may stop before the tar's trailing padding (zTOC): the last span inflates to the end of the blob. */
  readonly openEnded: boolean;
  /** Requested span size in bytes, informative. */
  readonly spanSize: number;
  span(index: number): Span;
  /** Index of the span that holds stream byte `offset`; throws RangeError outside [0, streamSize). */
  spanAt(offset: number): number;
  /**
   * Window (dictionary) of a gzip-checkpoint span: 32 768 bytes, oldest first, or undefined when it needs none.
   * May have to be read from disk or fetched, hence asynchronous.
   */
  window(index: number, options?: { signal?: AbortSignal | undefined }): Promise<Uint8Array | undefined>;
  /**
   * These spans are being fetched: windows that have to be fetched too are asked for now, neighbours together, so that they come with them. What
   * goes wrong is told to those who ask for the window.
   */
  prepareWindows(spans: readonly number[]): void;
}

/** Our one in-memory form of any seekable format. */
export interface LayerIndex {
  readonly entries: readonly TarEntry[];
  readonly spans: SpanTable;
}
