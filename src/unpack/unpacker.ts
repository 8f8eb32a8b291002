// What the rest of peel sees of unpacking.
import type { LayerBuild } from '../index/layer-build.ts';
import type { BlobSource } from '../layer/blob-source.ts';
import type { ProgressSink } from '../observe/progress.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { UnpackJobState } from '../state/unpack-jobs.ts';
import type { ByteString } from '../util/byte-string.ts';
import type { LocalBlobs } from './blob-feed.ts';

export type { UnpackJobState };

/**
 * - `overlay`: for overlayfs above other layers: what the layer hides is a character device 0:0 or a directory with trusted.overlay.opaque.
 * - `overlay-user`: the same with user.overlay.opaque, for overlays with `userxattr`.
 * - `plain`: nothing is below, or what is below lies in the same directory.
 */
export type TreeForm = 'overlay' | 'overlay-user' | 'plain';

export interface LayerToUnpack {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  /** The registry. */
  readonly source: BlobSource;
  /** Asked before the registry. */
  readonly local?: LocalBlobs | undefined;
}

export interface UnpackLayerRequest extends LayerToUnpack {
  /** Reference of the image that it is unpacked for: whom its leases count for. */
  readonly image: string;
  readonly form: TreeForm;
  /**
   * Told of a layer that was decoded, once it is verified: what an index needs to be made of. Its errors are logged; the signal is
   * that the unpacker closes, which waits for it.
   */
  readonly onBuilt?: ((build: LayerBuild, options: UnpackOptions) => Promise<void>) | undefined;
  readonly onProgress?: ProgressSink | undefined;
}

/** A layer's tree, verified, that lies in its job's folder until somebody takes it. */
export interface UnpackedTree {
  readonly job: number;
  readonly layer: Digest;
  /** Absolute, on the filesystem of the state directory. */
  readonly dir: string;
  /** Directories that the layer has something in and does not describe; clean paths, parents first, '' for the root. */
  readonly implied: readonly ByteString[];
  /**
   * Those of them that only hold what hides something below, and directories like themselves: where no layer below has such a directory, it has
   * to go, or an empty one would be seen. Parents first.
   */
  readonly hiding: readonly ByteString[];
  /**
   * Takes the tree: `take` moves `dir` to its place and records who has it, without waiting, in the transaction that marks the job claimed. What is
   * left to do for the layer (block cache, index, compressed blob) is done behind it.
   * Errors: ERR_UNPACK_NOT_CLAIMABLE when somebody has taken it; those of `take`, after which the job is as it was if `dir` is.
   */
  claim<T>(take: (dir: string) => T): T;
  /** Not wanted: it lies there for the next who asks, until it expires. Idempotent; nothing after `claim`. */
  release(): void;
}

export interface UnpackOptions {
  readonly signal: AbortSignal;
}

export interface UnpackImageRequest {
  readonly image: string;
  /** Lowest first. */
  readonly layers: readonly LayerToUnpack[];
  /** An empty directory, or nothing: the tree appears there by one rename. */
  readonly dir: string;
  /** `mine`: everything belongs to who runs this, without devices and privileged attributes. */
  readonly ownership: 'entries' | 'mine';
  readonly onProgress?: ProgressSink | undefined;
  /** What a person should know: devices that were left out, for example. */
  readonly onWarning?: ((message: string) => void) | undefined;
}

export interface LeaseStatus {
  /** Most at once; of everybody, and of one image. */
  readonly limit: number;
  readonly perImage: number;
  readonly held: number;
  readonly waiting: number;
}

export interface UnpackJobStatus {
  readonly job: number;
  readonly image: string;
  readonly layer: Digest;
  readonly state: UnpackJobState;
  /** Bytes of the blob that are here, and all of them. */
  readonly done: number;
  readonly total: number;
  /** Why it failed, was cancelled or expired. */
  readonly cause: string | undefined;
  /** ms since the epoch. */
  readonly startedAt: number;
}

export interface UnpackStatus {
  readonly downloads: LeaseStatus;
  readonly unpacks: LeaseStatus;
  /** Oldest first. */
  readonly jobs: readonly UnpackJobStatus[];
}

export interface UnpackLimits {
  readonly downloads: { readonly perNode: number; readonly perImage: number };
  readonly unpacks: { readonly perNode: number; readonly perImage: number };
}

export interface Unpacker {
  /**
   * The layer's tree. Several who ask for the same layer and form share one job; what an earlier process began is resumed.
   * Errors: UnpackError; the signal's reason.
   */
  unpackLayer(request: UnpackLayerRequest, options: UnpackOptions): Promise<UnpackedTree>;
  /** All layers, one over the other, in one directory. Errors: UnpackError; the signal's reason. `dir` is then as it was. */
  unpackImage(request: UnpackImageRequest, options: UnpackOptions): Promise<void>;
  status(): UnpackStatus;
  /** Counts from now on; what is held stays held. */
  setLimits(limits: UnpackLimits): void;
  /** Expires and removes what nobody wants. Never rejects. */
  collect(): Promise<void>;
  /** When nothing is left to be done for trees that are in use. */
  idle(): Promise<void>;
  /** Ends everything; what was verified stays for the next process. Idempotent. */
  close(): Promise<void>;
}
