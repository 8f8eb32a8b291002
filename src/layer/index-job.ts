// What a thread that reads indexes and compiles trees is asked, and what it answers: data that can be sent.
import type { IndexProvenance } from '../index/node-index-format.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { LowerNode } from '../tree/lower-node.ts';
import type { ByteString } from '../util/byte-string.ts';

/** Device blocks of all trees that are mounted, in bytes: a tar places data in these. */
export const treeBlockSize = 512;

export interface IndexedLayer {
  /** Path of the index file. */
  readonly index: string;
  readonly fingerprint: Uint8Array;
  /** Bytes of the layer stream. */
  readonly streamSize: number;
}

/** The merged tree of these layers, lowest first. */
export interface MergedJob {
  readonly kind: 'merged';
  readonly layers: readonly IndexedLayer[];
}

/** Where the tree of one layer is shown. */
export interface TreePlace {
  /** Nothing is below. */
  readonly base: boolean;
  /** In overlays with `userxattr`. */
  readonly userXattr: boolean;
}

/** The tree of one layer. */
export interface LayerJob extends TreePlace {
  readonly kind: 'layer';
  readonly layer: IndexedLayer;
  /** The layers below, lowest first, looked at only when the tree depends on them; undefined when they are not known. */
  readonly below: readonly IndexedLayer[] | undefined;
}

/** What the tree of one layer has at these clean paths. */
export interface LookJob extends Omit<LayerJob, 'kind'> {
  readonly kind: 'look';
  readonly paths: readonly ByteString[];
}

/** The layer that an index on offer has to be of, as its image describes it. */
export interface ExpectedLayer {
  readonly descriptor: Pick<Descriptor, 'digest' | 'size' | 'mediaType'>;
  readonly diffId: Digest;
}

/** The index file of a layer by its peel table. */
export interface TableJob extends ExpectedLayer {
  readonly kind: 'table';
  readonly table: Uint8Array;
  /** The blob that has the windows, and the reference of its repository. */
  readonly windows: { readonly digest: Digest; readonly size: number; readonly from: string | undefined } | undefined;
  readonly provenance: IndexProvenance;
  /** Its tree, too, where that does not depend on the layers below. */
  readonly tree: TreePlace | undefined;
}

/** The index file of a layer by its zTOC. */
export interface ZtocJob extends ExpectedLayer {
  readonly kind: 'ztoc';
  readonly ztoc: Uint8Array;
  readonly provenance: IndexProvenance;
  readonly tree: TreePlace | undefined;
}

export type PrepareJob = TableJob | ZtocJob;
export type TreeJob = MergedJob | LayerJob | LookJob;
export type IndexJob = PrepareJob | TreeJob;

/** What a layer says of the directory `/`. */
export interface RootAttributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface CompiledTree {
  /** The EROFS image. */
  readonly image: Uint8Array<ArrayBuffer>;
  /** Of a single layer; undefined when it does not describe `/`. */
  readonly root: RootAttributes | undefined;
  /** Why the layers below had to be looked at for a single layer's tree; undefined when not. */
  readonly below: string | undefined;
}

/** One for each path; undefined where nothing is. */
export type FoundNodes = readonly (LowerNode | undefined)[];

export interface PreparedIndex {
  /** The bytes of the index file. */
  readonly file: Uint8Array<ArrayBuffer>;
  /** 32 bytes that stand for it. */
  readonly fingerprint: Uint8Array;
  /** Undefined when it was not asked for, or depends on the layers below, or there can be none. */
  readonly tree: CompiledTree | undefined;
}

export type IndexJobResult<J extends IndexJob = IndexJob> = J extends LookJob
  ? FoundNodes
  : J extends PrepareJob
    ? PreparedIndex
    : CompiledTree;

/** Whoever does such jobs: threads, or this one. */
export interface IndexJobs {
  /** Errors: IndexJobError, or those of `runIndexJob` where it runs here; the signal's reason. */
  run<J extends IndexJob>(job: J, signal: AbortSignal): Promise<IndexJobResult<J>>;
  /** Several jobs are about to come. */
  expect?(): void;
}

export interface IndexJobFailure {
  readonly code: string | undefined;
  readonly message: string;
}
