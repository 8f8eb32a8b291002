// What the snapshotter needs of the rest of peel: somebody who makes layers readable.
import type { Digest } from '../oci/digest.ts';

export type Labels = Readonly<Record<string, string>>;

/** A layer that containerd wants to have as a snapshot. */
export interface LayerWish {
  /** The chain ID, label `containerd.io/snapshot.ref`. */
  readonly chainId: string;
  /** As containerd sent them: untrusted, possibly garbage. */
  readonly labels: Labels;
  /** Of the snapshots below, lowest first: the slot of a layer of ours, undefined for a directory that containerd unpacked into. */
  readonly below: readonly (number | undefined)[];
  readonly signal: AbortSignal;
}

export type ProvideOutcome =
  | { readonly kind: 'served'; readonly slot: number; readonly image: string; readonly layer: Digest }
  /** `code`: a closed set, for metrics. `reason`: one phrase for people, with names and without secrets. */
  | {
      readonly kind: 'deferred';
      readonly code: DeferralCode;
      readonly reason: string;
      readonly image: string | undefined;
      readonly layer: Digest | undefined;
    };

export type DeferralCode =
  | 'mode' // serving is switched off
  | 'formats' // every index format is switched off
  | 'labels' // no labels, or garbage
  | 'no_index' // the image, or this layer of it, has none
  | 'layer' // cannot be shown by itself: a hard link into a lower one, missing parents above a layer that is not ours
  | 'timeout'
  | 'registry'
  | 'disk'
  | 'error';

/** Bytes and files on disk. */
export interface DiskUsage {
  readonly size: number;
  readonly inodes: number;
}

export interface LayerProvider {
  /**
   * Makes the layer readable and mounted, and its slot durable, or says why containerd has to unpack it. Calls for the same layer are
   * one piece of work. Rejects only with the signal's reason.
   */
  provide(wish: LayerWish): Promise<ProvideOutcome>;
  /** Where the layer is mounted: `<root>/l/<slot in base 36>`. */
  directory(slot: number): string;
  /** Why the layer is not mounted there, or must not be used; undefined when all is well. Cheap. */
  refusal(slot: number): string | undefined;
  /** Attributes of the directory `/` of the layer's tree; undefined when the layer does not say. */
  rootOf(slot: number): Promise<RootAttributes | undefined>;
  /** What the layer's cached bytes, index and tree take on disk now. */
  usage(slot: number): Promise<DiskUsage>;
  /** No snapshot shows these any more: from now on their bytes are the first to be evicted. Cheap, touches no disk but the database. */
  released(slots: readonly number[]): void;
  /** Unmounts layers that no snapshot shows, and frees their trees and cached bytes unless somebody else uses them. */
  collect(): Promise<void>;
}

export interface RootAttributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}
