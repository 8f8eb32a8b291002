// The capabilities of one registry. Client, server, stores, mirrors and filters all implement or wrap this interface.
import type { Readable } from 'node:stream';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';

/**
 * What becomes of a request to an endpoint that is left alone after failures. `wait`: it is sent when the endpoint is asked again. `tell`: it fails
 * at once until then. `yield`: as `tell`, and it leaves the asking to others for long.
 */
export type WhenAway = 'wait' | 'tell' | 'yield';

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Default `wait`. */
  readonly whenAway?: WhenAway | undefined;
}

export interface GetBlobOptions extends CallOptions {
  /** False: whoever reads checks the bytes itself, as clients over HTTP do, and a store may give them as they lie. */
  readonly verify?: boolean | undefined;
}

export interface BlobReader {
  readonly descriptor: Descriptor;
  /** For a range read: exactly the bytes asked for (clamped to the blob's end). Errors surface on the stream. */
  readonly body: Readable;
  /** Idempotent; ends the transfer when it is still running. */
  close(): void;
}

export interface ManifestContent {
  readonly descriptor: Descriptor;
  /** Exactly as stored; hashes to `descriptor.digest`. */
  readonly bytes: Uint8Array;
}

export interface Reader {
  /** The whole blob, verified against `digest` while streaming. Errors: BLOB_UNKNOWN, NAME_UNKNOWN, UNAUTHORIZED, DENIED. */
  getBlob(repository: string, digest: Digest, options?: GetBlobOptions): Promise<BlobReader>;
  /**
   * Bytes [start, end) of a blob; `end` beyond the blob or undefined means to its end. Never returns other bytes than those
   * asked for: an ignored or wrong range is ERR RANGE_INVALID. Not verified (a range has no digest of its own).
   */
  getBlobRange(
    repository: string,
    digest: Digest,
    start: number,
    end: number | undefined,
    options?: CallOptions,
  ): Promise<BlobReader>;
  getManifest(repository: string, digest: Digest, options?: CallOptions): Promise<ManifestContent>;
  getTag(repository: string, tag: string, options?: CallOptions): Promise<ManifestContent>;
  resolveBlob(repository: string, digest: Digest, options?: CallOptions): Promise<Descriptor>;
  resolveManifest(repository: string, digest: Digest, options?: CallOptions): Promise<Descriptor>;
  /** One HEAD. Errors: MANIFEST_UNKNOWN, NAME_UNKNOWN, UNAUTHORIZED, DENIED. */
  resolveTag(repository: string, tag: string, options?: CallOptions): Promise<Descriptor>;
}

export interface BlobWriter {
  /** Opaque; resumes the upload, also from another process. */
  readonly id: string;
  /** Bytes written so far. */
  readonly size: number;
  readonly chunkSize: number;
  write(chunk: Uint8Array, options?: CallOptions): Promise<void>;
  /**
   * Bytes [start, end) of what was written, also while more is being written; `end` beyond `size` means to there. Not verified. Absent where
   * what was sent cannot be had back before the commit. Errors: RANGE_INVALID; BLOB_UPLOAD_INVALID when the upload is closed or finished.
   */
  read?(start: number, end: number, options?: CallOptions): Promise<Uint8Array>;
  /** Flushes without committing; the upload can be resumed by `id`. */
  close(): Promise<void>;
  /** Errors: DIGEST_INVALID when the content does not hash to `digest`. */
  commit(digest: Digest, options?: CallOptions): Promise<Descriptor>;
  /** Idempotent; nothing after a commit. */
  cancel(): Promise<void>;
}

export interface PushManifestOptions extends CallOptions {
  /** The name to store it under when that is not its sha256. Errors: DIGEST_INVALID when the bytes do not hash to it. */
  readonly digest?: Digest | undefined;
  /**
   * A store takes the manifest although blobs it names are not there, as a cache needs, which gets them when they are asked for. Never
   * sent to a registry.
   */
  readonly allowMissing?: boolean | undefined;
  /**
   * A store gives the tag only when there is none, or when it names the same manifest already. Never sent to a registry. Errors: DENIED when it names
   * another.
   */
  readonly ifAbsent?: boolean | undefined;
}

export interface Writer {
  /** `body` is called again for a retry, so it must return a new stream each time. Errors: DIGEST_INVALID, SIZE_INVALID. */
  pushBlob(
    repository: string,
    descriptor: Descriptor,
    body: () => Readable,
    options?: CallOptions,
  ): Promise<Descriptor>;
  pushBlobChunked(repository: string, chunkSize: number | undefined, options?: CallOptions): Promise<BlobWriter>;
  /** `offset` undefined asks the registry how far it got. Errors: BLOB_UPLOAD_UNKNOWN, RANGE_INVALID. */
  resumeBlob(repository: string, id: string, offset: number | undefined, options?: CallOptions): Promise<BlobWriter>;
  /** Errors: UNSUPPORTED when the registry cannot mount; nothing is uploaded then. */
  mountBlob(fromRepository: string, toRepository: string, digest: Digest, options?: CallOptions): Promise<Descriptor>;
  /** Stores `bytes` under its digest and, when given, under `tag`. Errors: MANIFEST_INVALID, MANIFEST_BLOB_UNKNOWN. */
  pushManifest(
    repository: string,
    tag: string | undefined,
    bytes: Uint8Array,
    mediaType: string,
    options?: PushManifestOptions,
  ): Promise<Descriptor>;
}

export interface Deleter {
  deleteBlob(repository: string, digest: Digest, options?: CallOptions): Promise<void>;
  deleteManifest(repository: string, digest: Digest, options?: CallOptions): Promise<void>;
  deleteTag(repository: string, tag: string, options?: CallOptions): Promise<void>;
}

export interface ListOptions extends CallOptions {
  readonly startAfter?: string | undefined;
}

export interface ReferrersOptions extends CallOptions {
  readonly artifactType?: string | undefined;
}

/** Lexical order; an error ends the sequence. */
export interface Lister {
  repositories(options?: ListOptions): AsyncIterable<string>;
  tags(repository: string, options?: ListOptions): AsyncIterable<string>;
  /** Manifests whose `subject` is `digest`, whether or not that manifest exists. Falls back to the referrers tag on the wire. */
  referrers(repository: string, digest: Digest, options?: ReferrersOptions): AsyncIterable<Descriptor>;
}

export interface Registry extends Reader, Writer, Deleter, Lister {}
