import type { Digest } from '../oci/digest.ts';
import type { Compression } from '../oci/media-type.ts';
import type { TarEntry } from '../tar/entry.ts';
import type { LayerIndex } from './layer-index.ts';
import type { SpanColumns } from './span-columns.ts';

export interface BuildProgress {
  /** Bytes of the blob taken in. */
  readonly blobBytes: number;
  /** Bytes of the stream come out. */
  readonly streamBytes: number;
  readonly entries: number;
}

/** A blob's bytes to the stream's. What it yields is valid until the next is asked for. */
export type DecodeBlob = (blob: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;

export interface BuildOptions {
  /** From the media type; the blob's first bytes have the last word. */
  readonly compression?: Compression | undefined;
  /** Stream bytes per span, default 4 MiB. A span ends at the next deflate block. */
  readonly spanSize?: number | undefined;
  /** File that takes the stream, each byte at its stream offset; -1 (default) keeps none. Not closed. */
  readonly dataFd?: number | undefined;
  /** Stream bytes per span of the fine table that a peel index has; without it none is made. */
  readonly fineSpanSize?: number | undefined;
  /** What the blob has to be; checked when given. */
  readonly blobDigest?: Digest | undefined;
  readonly blobSize?: number | undefined;
  readonly diffId?: Digest | undefined;
  /** Most stream bytes, against blobs that unpack to more than the machine holds; default 16 TiB. */
  readonly maxStreamBytes?: number | undefined;
  /** Most stream bytes per blob byte so far, for a layer of more than 64 MiB; default any. */
  readonly maxRatio?: number | undefined;
  /** Most members, default 2 million. */
  readonly maxEntries?: number | undefined;
  /**
   * Who decodes a blob of this kind in our stead, if anybody. It is passed on what it throws. The layer then gets an index without places to
   * begin at, which serves it only while it is here whole.
   */
  decoder?(compression: Compression): DecodeBlob | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Members, in archive order, as they are found. What it throws ends the build. */
  onEntries?(entries: readonly TarEntry[]): void;
  /** All stream bytes before this offset can be read from `dataFd`. Ascending; the last one is the stream's size. */
  onWritten?(streamOffset: number): void;
  onProgress?(progress: BuildProgress): void;
}

/** The fine spans of a layer, and the windows that go with them. */
export interface FineSpans {
  /** `gzip-checkpoint`, `zstd-frame` or `stored`; has no windows of its own. */
  readonly spans: SpanColumns;
  /** The sparse windows, a zstd frame each, one behind the other in the order of the spans: the windows blob. */
  readonly frames: Uint8Array;
  /** Bytes of each span's frame; 0 when it needs none. */
  readonly frameLengths: Uint32Array;
  /** 32 bytes per span: sha256 of its frame, zeros when it has none. */
  readonly frameSha256: Uint8Array;
}

/** Everything one pass over a layer blob tells. */
export interface LayerBuild extends LayerIndex {
  readonly entries: readonly TarEntry[];
  readonly spans: SpanColumns;
  /** What the blob really is. */
  readonly compression: Compression;
  readonly blobSize: number;
  readonly blobDigest: Digest;
  readonly streamSize: number;
  readonly diffId: Digest;
  /** Stream offset at which a tar reader stops: behind the two zero blocks. */
  readonly tarEnd: number;
  /** gzip only: the checkpoint table of a zTOC. The windows of `spans` are views of it. */
  readonly checkpoints: Uint8Array | undefined;
  /** Undefined when not asked for, or when the layer has no places to begin at: see `fineObstacle`. */
  readonly fine: FineSpans | undefined;
  /** Why the layer has no fine spans although they were asked for. */
  readonly fineObstacle: string | undefined;
}
