// What the snapshotter needs of the rest of peel: somebody who makes layers readable.
import type { Digest } from '../oci/digest.ts';
import type { LowerNode } from '../tree/lower-node.ts';
import type { UnpackedTree } from '../unpack/unpacker.ts';
import type { ByteString } from '../util/byte-string.ts';

export type Labels = Readonly<Record<string, string>>;

/** A layer that containerd wants to have as a snapshot. */
export interface LayerWish {
  /** The chain ID, label `containerd.io/snapshot.ref`. */
  readonly chainId: string;
  /** As containerd sent them: untrusted, possibly garbage. */
  readonly labels: Labels;
  /** Of the snapshots below, lowest first: the slot of a layer of ours, undefined for a directory that somebody unpacked into. */
  readonly below: readonly (number | undefined)[];
  /** containerd's namespace that asks, where it said so. */
  readonly namespace?: string | undefined;
  /** Called when the layer is being unpacked, which takes as long as it takes; at most once. */
  readonly onUnpacking?: (() => void) | undefined;
  /** Asked before the layer is unpacked: whether a snapshot has it by now, made for somebody else. */
  readonly isThere?: (() => boolean) | undefined;
  readonly signal: AbortSignal;
}

export type ProvideOutcome =
  | { readonly kind: 'served'; readonly slot: number; readonly image: string; readonly layer: Digest }
  /** Whoever takes this claims the tree or releases it; several who asked together are given the same one. `reason`: why it is not served. */
  | {
      readonly kind: 'unpacked';
      readonly tree: UnpackedTree;
      readonly image: string;
      readonly layer: Digest;
      readonly reason: string;
    }
  /** As the wish's `isThere` has said, or that of another one for the same layer. */
  | { readonly kind: 'there'; readonly image: string; readonly layer: Digest }
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
  | 'layer' // cannot be had by itself: a hard link into a lower one, missing parents above a layer that is not ours
  | 'timeout'
  | 'registry'
  | 'disk'
  | 'error';

/** Bytes and files on disk. */
export interface DiskUsage {
  readonly size: number;
  readonly inodes: number;
}

/** A container that is about to run above layers of an image. */
export interface ContainerStart {
  /** Of the layers that are served, lowest first. */
  readonly slots: readonly number[];
  /** Reference it was pulled by. */
  readonly image: string;
  /** Of the image's manifest, where that was told. */
  readonly manifest: Digest | undefined;
}

export interface LayerProvider {
  /**
   * Makes the layer readable and mounted, and its slot durable, or unpacks it, or says why containerd has to. Calls for the same layer are
   * one piece of work. Rejects only with the signal's reason.
   */
  provide(wish: LayerWish): Promise<ProvideOutcome>;
  /** Where the layer is mounted: `<root>/l/<slot in base 36>`. */
  directory(slot: number): string;
  /** Why the layer is not mounted there, or must not be used; undefined when all is well. Cheap. */
  refusal(slot: number): string | undefined;
  /** Attributes of the directory `/` of the layer's tree; undefined when the layer does not say. */
  rootOf(slot: number): Promise<RootAttributes | undefined>;
  /**
   * What the layer's tree has at these clean paths, one answer for each; undefined where nothing is. `below`: as in the wish for it.
   * Errors: any, when that cannot be said; the signal's reason.
   */
  nodesAt(
    slot: number,
    below: LayerWish['below'],
    paths: readonly ByteString[],
    options: { readonly signal: AbortSignal },
  ): Promise<readonly (LowerNode | undefined)[]>;
  /** What the layer's cached bytes, index and tree take on disk now. */
  usage(slot: number): Promise<DiskUsage>;
  /** Told when containerd has a directory for the container. Returns at once and never throws. */
  starting(start: ContainerStart): void;
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
