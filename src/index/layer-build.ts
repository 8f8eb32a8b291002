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

export interface BuildOptions {
  /** From the media type; the blob's first bytes have the last word. */
  readonly compression?: Compression | undefined;
  /** Stream bytes per span, default 4 MiB. A span ends at the next deflate block. */
  readonly spanSize?: number | undefined;
  /** File that takes the stream, each byte at its stream offset; -1 (default) keeps none. Not closed. */
  readonly dataFd?: number | undefined;
  /** What the blob has to be; checked when given. */
  readonly blobDigest?: Digest | undefined;
  readonly blobSize?: number | undefined;
  readonly diffId?: Digest | undefined;
  /** Most stream bytes, against blobs that unpack to more than the machine holds; default 16 TiB. */
  readonly maxStreamBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  onProgress?(progress: BuildProgress): void;
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
}
