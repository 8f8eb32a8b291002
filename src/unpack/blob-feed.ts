import type { BlobSource } from '../layer/blob-source.ts';
import type { Descriptor } from '../oci/descriptor.ts';

/** A layer's compressed bytes while they come, from wherever they come. Nothing of it is verified as a whole. */
export interface BlobFeed {
  /** `job`: in the job's folder; `node`: kept in the state directory; `containerd`: in its content store. */
  readonly kind: 'job' | 'node' | 'containerd';
  /** Of the file with the blob once `stream` has come to its end; undefined where it is not in a file of ours. */
  readonly path: string | undefined;
  /**
   * The whole blob in order, in pieces of any size, as it arrives. Once. Errors: ERR_UNPACK_FETCH, ERR_UNPACK_DISK; ERR_UNPACK_DIGEST when it has
   * another size; ERR_UNPACK_BLOB_MISSING when what was kept is gone; ERR_UNPACK_CANCELLED after `close`; the signal's reason.
   */
  stream(options: { readonly signal: AbortSignal }): AsyncIterable<Uint8Array>;
  /** When no more bytes come: whether all of them are in the file at `path`. Missing: they are not for us to keep. */
  inFile?(): Promise<boolean>;
  /** The same bytes for who wants them in another order: waits for those that are on their way. */
  readonly source: BlobSource;
  /** Ends what is under way; what was verified stays in the job's folder. Idempotent. */
  close(): Promise<void>;
}

/** Somebody on this machine who may have blobs: containerd's content store. */
export interface LocalBlobs {
  /** For messages. */
  readonly name: string;
  /** Undefined when the blob is not there. Errors: any; they are logged, and the blob is fetched. */
  find(blob: Descriptor, options: { readonly signal: AbortSignal }): Promise<BlobSource | undefined>;
  /**
   * Puts the blob there, unless it is; `open` gives its bytes from an offset on. Missing: nothing is kept there.
   * Errors: any; the blob then stays where it is.
   */
  keep?(
    blob: Descriptor,
    open: (offset: number) => Promise<{ readonly body: AsyncIterable<Uint8Array>; close(): void }>,
    options: { readonly signal: AbortSignal },
  ): Promise<void>;
}
