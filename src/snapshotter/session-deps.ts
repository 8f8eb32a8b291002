// What the parts of a session (image-session.ts) have in common.
import type { ContentFetcher } from '../image/content.ts';
import type { IndexChoice } from '../image/index-choice.ts';
import type { IndexFormats } from '../image/index-formats.ts';
import type { LayerRef } from '../image/layer-trees.ts';
import type { LazyLayers } from '../image/lazy-layers.ts';
import type { LayerLease, OpenLayers } from '../image/open-layers.ts';
import type { OpenOrigin, Origin } from '../image/origin.ts';
import type { ResolvedImage } from '../image/resolve.ts';
import type { LayerBuild } from '../index/layer-build.ts';
import type { LayerStore } from '../layer/layer-store.ts';
import type { Layer } from '../layer/layer.ts';
import type { MadeTree } from '../layer/made-tree.ts';
import type { Logger } from '../observe/log.ts';
import type { Digest } from '../oci/digest.ts';
import type { State } from '../state/state.ts';
import type { Deferral } from './deferral.ts';
import type { SessionUnpacksDeps } from './session-unpacks.ts';

export interface SessionDeps {
  readonly state: State;
  readonly store: LayerStore;
  readonly open: OpenLayers;
  readonly content: ContentFetcher;
  readonly openOrigin: OpenOrigin;
  readonly log: Logger;
  readonly formats: IndexFormats;
  readonly choice: IndexChoice;
  /** Bytes of blob; a layer that its image's index leaves out is downloaded whole up to this. */
  readonly wholeLayerLimit: number;
  readonly downloadsPerImage: number;
  /** Has spans fetched that earlier starts read; undefined: nothing is asked for before it is read. */
  readonly prefer: ((layer: Layer, spans: readonly number[]) => void) | undefined;
  /** What goes on behind the layers, from the moment when they are open; undefined: nothing. */
  readonly lazy?: LazyLayers | undefined;
  /** For overlays with `userxattr`. */
  readonly userXattr: boolean;
  /** Told of the trees that were made together with the layers' indexes. */
  readonly onTree: (made: MadeTree) => void;
  /** Told of every layer that is open together with all below it, lowest first: what has to be made of them may begin. */
  readonly onOpened: (layer: LayerRef, below: readonly LayerRef[]) => void;
  /** Undefined: what cannot be served is containerd's. */
  readonly unpacking: SessionUnpacking | undefined;
}

export interface SessionUnpacking extends SessionUnpacksDeps {
  /** `always`: without looking for an index. */
  readonly when: 'always' | 'not lazy';
  readonly userXattr: boolean;
  /** Told of every layer that was decoded. */
  readonly onBuilt?: ((built: BuiltLayer) => Promise<void>) | undefined;
}

export interface BuiltLayer {
  readonly image: ResolvedImage;
  readonly layer: Digest;
  readonly build: LayerBuild;
  /** Of who waits for it to be made use of. */
  readonly signal: AbortSignal;
}

export type OpenOutcome = { readonly kind: 'open'; readonly lease: LayerLease } | Deferral;

export interface SessionImage {
  readonly origin: Origin;
  readonly image: ResolvedImage;
}
