// What a thread that compiles trees is asked, and what it answers: data that can be sent.
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

/** The tree of one layer. */
export interface LayerJob {
  readonly kind: 'layer';
  readonly layer: IndexedLayer;
  /** The layers below, lowest first, looked at only when the tree depends on them; undefined when they are not known. */
  readonly below: readonly IndexedLayer[] | undefined;
  /** Nothing is below. */
  readonly base: boolean;
  readonly userXattr: boolean;
}

/** What the tree of one layer has at these clean paths. */
export interface LookJob extends Omit<LayerJob, 'kind'> {
  readonly kind: 'look';
  readonly paths: readonly ByteString[];
}

export type TreeJob = MergedJob | LayerJob | LookJob;

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

export type TreeJobResult<J extends TreeJob = TreeJob> = J extends LookJob ? FoundNodes : CompiledTree;

export interface TreeJobFailure {
  readonly code: string | undefined;
  readonly message: string;
}
