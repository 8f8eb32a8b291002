import type { Digest } from '../oci/digest.ts';

/** Where the windows of a layer lie in its windows blob. Columns: one element per span. */
export interface PeelWindows {
  /** Bytes of the blob: all frames, one behind the other. */
  readonly size: number;
  /** Byte offset of the span's frame in the blob. */
  readonly offsets: Float64Array;
  /** Bytes of the frame; 0 when the span needs no window. */
  readonly lengths: Uint32Array;
  /** 32 bytes each: sha256 of the frame, zeros when there is none. */
  readonly sha256: Uint8Array;
}

/** The same with the blob that has them. */
export interface RemoteWindows extends PeelWindows {
  readonly digest: Digest;
  /** Reference of the repository that had the blob when its index was read. */
  readonly from?: string | undefined;
}

/** Gives the windows that are not in an index file. */
export interface WindowSource {
  /** As `SpanTable.prepareWindows`. */
  prepare(spans: readonly number[]): void;
  /** 32 768 bytes. Errors: those of fetching; ERR_INDEX_CHECKSUM when what came has not the digest. */
  window(span: number, options?: { signal?: AbortSignal | undefined }): Promise<Uint8Array>;
}
