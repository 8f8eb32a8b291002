// What a thread that compiles trees is asked, and what it answers: data that can be sent.
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

export type TreeJob = MergedJob | LayerJob;

/** What a layer says of the directory `/`. */
export interface RootAttributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface TreeJobResult {
  /** The EROFS image. */
  readonly image: Uint8Array<ArrayBuffer>;
  /** Of a single layer; undefined when it does not describe `/`. */
  readonly root: RootAttributes | undefined;
  /** Why the layers below had to be looked at for a single layer's tree; undefined when not. */
  readonly below: string | undefined;
}

export interface TreeJobFailure {
  readonly code: string | undefined;
  readonly message: string;
}
