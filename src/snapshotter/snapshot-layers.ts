// Layers for snapshots: labels → image → index → layer → mount. What stands in the way is answered as a reason, and containerd unpacks.
import { setMaxListeners } from 'node:events';
import { LRUCache } from 'lru-cache';
import type { ContentFetcher } from '../image/content.ts';
import type { IndexChoice } from '../image/index-choice.ts';
import { isAnyFormatOn } from '../image/index-formats.ts';
import type { IndexFormats } from '../image/index-formats.ts';
import type { LayerMountStatus } from '../image/layer-mount-status.ts';
import { knownManifest } from '../image/known-manifest.ts';
import type { LayerTransportChoice } from '../image/layer-mounter.ts';
import { LayerMounts } from '../image/layer-mounts.ts';
import { LayerTrees } from '../image/layer-trees.ts';
import type { LayerRef } from '../image/layer-trees.ts';
import { OpenLayers } from '../image/open-layers.ts';
import type { LazyService } from '../image/serve-lazily.ts';
import type { LayerLease } from '../image/open-layers.ts';
import type { OpenOrigin } from '../image/origin.ts';
import type { ResolvedImage } from '../image/resolve.ts';
import type { NewStart } from '../image/start-recorder.ts';
import { errorMessage } from '../layer/errors.ts';
import type { IndexJobs } from '../layer/index-job.ts';
import type { LayerStore } from '../layer/layer-store.ts';
import type { MadeTree } from '../layer/made-tree.ts';
import type { Logger } from '../observe/log.ts';
import { chainIds } from '../oci/chain-id.ts';
import { isDigest } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import { formatReference } from '../oci/reference.ts';
import type { State } from '../state/state.ts';
import type { LowerNode } from '../tree/lower-node.ts';
import type { LocalBlobs } from '../unpack/blob-feed.ts';
import type { Unpacker } from '../unpack/unpacker.ts';
import type { ByteString } from '../util/byte-string.ts';
import { Deferred } from '../util/deferred.ts';
import { KeyedLock } from '../util/keyed-lock.ts';
import { OnceMap } from '../util/once-map.ts';
import { defer, deferralOf, isTreeless } from './deferral.ts';
import type { Deferral } from './deferral.ts';
import { readImageLabels } from './image-labels.ts';
import type { LabelledImage } from './image-labels.ts';
import { ImageSession } from './image-session.ts';
import type { BuiltLayer, SessionDeps, SessionUnpacking } from './session-deps.ts';
import { layerRef } from './layer-ref.ts';
import { layerUsage } from './layer-usage.ts';
import type {
  ContainerStart,
  DiskUsage,
  LayerProvider,
  LayerWish,
  ProvideOutcome,
  RootAttributes,
} from './layer-provider.ts';
import { openSnapshotMounts } from './snapshot-mounts.ts';
import type { SnapshotMounts } from './snapshot-mounts.ts';
import { SlotPins } from './slot-pins.ts';

export interface SnapshotLayersConfig {
  /**
   * - `lazy`: what has no index is containerd's to unpack.
   * - `lazy-else-eager`: it is unpacked here.
   * - `eager`: every layer is.
   * - `defer`: none is served or unpacked.
   */
  readonly mode: 'lazy' | 'eager' | 'lazy-else-eager' | 'defer';
  readonly transport: LayerTransportChoice;
  readonly formats: IndexFormats;
  readonly choice: IndexChoice;
  /** Bytes of blob. */
  readonly wholeLayerLimit: number;
  readonly downloadsPerImage: number;
}

export interface SnapshotLayersDeps {
  readonly root: string;
  readonly runDir: string;
  readonly state: State;
  readonly store: LayerStore;
  readonly content: ContentFetcher;
  readonly openOrigin: OpenOrigin;
  /** Opened already; else it is done here. */
  readonly mounts?: SnapshotMounts | undefined;
  /** Who compiles trees; default threads of its own. */
  readonly jobs?: IndexJobs | undefined;
  /** Trees carry opaque marks as `user.overlay.opaque`. */
  readonly userXattr: boolean;
  readonly config: SnapshotLayersConfig;
  /** Undefined: whatever the mode, no layer is unpacked here. */
  readonly unpacker?: Unpacker | undefined;
  /** Blobs that containerd has for one of its namespaces. */
  readonly localBlobs?: ((namespace: string) => LocalBlobs) | undefined;
  /** Told of every container that is about to run above layers that this process serves; those of them that it reads for others. */
  readonly onStart?: ((start: NewStart) => void) | undefined;
  /** Told of every layer that was decoded to unpack it. Its errors are logged. */
  readonly onBuilt?: ((built: BuiltLayer) => Promise<void>) | undefined;
  /** What goes on behind lazily served layers; undefined: only what is read is fetched. */
  readonly lazily?: LazyService | undefined;
  readonly log: Logger;
  /** ms that an image is remembered after somebody asked for it; default 3 minutes. */
  readonly sessionMs?: number | undefined;
}

const maxSessions = 64;
const sessionMs = 180_000;

type Parts = Omit<SnapshotLayersDeps, 'mounts'> & {
  readonly open: OpenLayers;
  readonly trees: LayerTrees;
  readonly mounts: LayerMounts;
};

export class SnapshotLayers implements LayerProvider {
  readonly #p: Parts;
  readonly #sessions: LRUCache<string, ImageSession>;
  readonly #providing = new OnceMap<string, ProvideOutcome>();
  /** Of the same keys: resolved when the layer is being unpacked. */
  readonly #unpacking = new Map<string, Deferred<void>>();
  readonly #pins = new SlotPins();
  /** Of a layer: nobody finds its tree that somebody else is about to clear away. */
  readonly #turns = new KeyedLock<Digest>();
  readonly #ending = new AbortController();

  private constructor(parts: Parts) {
    this.#p = parts;
    setMaxListeners(0, this.#ending.signal);
    this.#sessions = new LRUCache({
      max: maxSessions,
      ttl: parts.sessionMs ?? sessionMs,
      ttlAutopurge: true,
      updateAgeOnGet: true,
      dispose: (session) => void session.retire(),
    });
  }

  /** Mounts what snapshots show, without a request; what cannot be restored is in `status()`. Errors: those of the state directory. */
  static async open(deps: SnapshotLayersDeps): Promise<SnapshotLayers> {
    const { state, config } = deps;
    const lazy = () => deps.lazily?.lazy;
    const opened =
      deps.mounts ??
      (await openSnapshotMounts({ ...deps, transport: config.transport, downloads: config.downloadsPerImage, lazy }));
    await opened.mounts.restore(state.slots.shown());
    return new SnapshotLayers({ ...deps, ...opened });
  }

  async provide(wish: LayerWish): Promise<ProvideOutcome> {
    wish.signal.throwIfAborted();
    const { mode, formats } = this.#p.config;
    const labels = readImageLabels(wish.labels);
    const told = 'refusal' in labels ? undefined : labels;
    const image = told === undefined ? undefined : formatReference(told.reference);
    const answer = (deferral: Deferral): ProvideOutcome => ({ ...deferral, image, layer: told?.layer });
    if (mode === 'defer')
      return answer(defer('mode', 'serving is switched off: snapshotter.mode is "defer" in the configuration'));
    if ('refusal' in labels) return answer(defer('labels', labels.refusal));
    if (!isDigest(wish.chainId))
      return answer(
        defer(
          'labels',
          `label containerd.io/snapshot.ref is not a chain ID: ${JSON.stringify(wish.chainId.slice(0, 100))}`,
        ),
      );
    if (!isAnyFormatOn(formats) && labels.index === undefined && this.#unpacks === undefined)
      return answer(defer('formats', 'every index format is switched off: index.formats in the configuration'));
    const key = JSON.stringify([image, labels, wish.chainId, wish.below]);
    const unpacking = this.#unpacking.get(key) ?? new Deferred<void>();
    this.#unpacking.set(key, unpacking);
    void unpacking.promise.then(() => wish.onUnpacking?.());
    const work = async (signal: AbortSignal) => {
      try {
        return await this.#provide(labels, { ...wish, signal, onUnpacking: () => unpacking.resolve() });
      } catch (error) {
        signal.throwIfAborted();
        return answer(deferralOf(error));
      }
    };
    try {
      return await this.#providing.run(key, work, { signal: wish.signal });
    } catch (error) {
      // Who only lost patience asks for the layers above next.
      if (wish.signal.aborted && !isTimeout(wish.signal.reason)) this.#sessions.peek(sessionKey(labels))?.abandon();
      throw error;
    } finally {
      if (!this.#providing.has(key)) this.#unpacking.delete(key);
    }
  }

  directory(slot: number): string {
    return this.#p.mounts.directory(slot);
  }

  refusal(slot: number): string | undefined {
    const { state, mounts } = this.#p;
    const row = state.slots.get(slot);
    const layer = row?.layer ?? slot.toString(36);
    if (mounts.get(slot) === undefined) return `layer ${layer} is not mounted: ${row?.error ?? 'nobody mounted it'}`;
    const suspect = row && state.layers.get(row.layer)?.suspect;
    return suspect === undefined ? undefined : `layer ${layer} cannot be trusted: ${suspect}`;
  }

  async rootOf(slot: number): Promise<RootAttributes | undefined> {
    return this.#p.mounts.get(slot)?.tree?.root;
  }

  async nodesAt(
    slot: number,
    below: LayerWish['below'],
    paths: readonly ByteString[],
    { signal }: { readonly signal: AbortSignal },
  ): Promise<readonly (LowerNode | undefined)[]> {
    const { trees, mounts, userXattr } = this.#p;
    const layer = mounts.get(slot)?.lease?.layer;
    if (layer === undefined)
      throw new Error(this.refusal(slot) ?? `slot ${slot.toString(36)} is mounted without an index`);
    const request = { layer: layerRef(layer), below: this.#below(below), base: below.length === 0, userXattr };
    return await trees.nodesAt(request, paths, { signal });
  }

  async usage(slot: number): Promise<DiskUsage> {
    const { state, store, mounts, trees } = this.#p;
    const row = state.slots.get(slot);
    if (row === undefined) return { size: 0, inodes: 0 };
    const tree = mounts.get(slot)?.tree ?? (await trees.find(row.tree));
    return await layerUsage(store.paths(row.layer).dir, tree?.path);
  }

  starting(start: ContainerStart): void {
    void this.#tellStart(start).catch((error: unknown) =>
      this.#p.log.debug({ image: start.image, error: errorMessage(error) }, 'the start of a container is not recorded'),
    );
  }

  released(slots: readonly number[]): void {
    const { state } = this.#p;
    this.#pins.released(slots);
    const layers = new Set(slots.flatMap((slot) => state.slots.get(slot)?.layer ?? []));
    const unused = [...layers].filter(
      (layer) => !state.slots.byLayer(layer).some(({ slot }) => state.slots.isShown(slot)),
    );
    state.layers.touch(unused, 0);
  }

  async collect(): Promise<void> {
    const { state, mounts } = this.#p;
    const mayGo = (slot: number) => !state.slots.isShown(slot) && !this.#pins.has(slot);
    const going = state.slots.list().filter(({ slot }) => mayGo(slot));
    for (const { layer } of going) {
      for (const session of this.#sessions.values()) await session.drop(layer);
    }
    for (const { slot, layer } of going) {
      await this.#turns.run(layer, () => mounts.forget([slot], mayGo));
    }
  }

  /** Of every slot, also of those that could not be mounted. */
  status(): LayerMountStatus[] {
    return this.#p.mounts.status();
  }

  /** Requests of the kernel that were answered with an error. */
  fuseErrors(): number {
    return this.#p.mounts.fuseErrors();
  }

  /** References of images that have the layer, as far as they are known; the one used last first. */
  imagesOf(layer: Digest): readonly string[] {
    return this.#p.state.layerSources.of(layer);
  }

  /** Why the kernel does not mount trees here; undefined when it does. */
  kernelRefusal(): Promise<string | undefined> {
    return this.#p.mounts.kernelRefusal();
  }

  /** Stops serving and unmounts nothing: what is complete stays readable, the rest when it is opened again. Idempotent. */
  async close(): Promise<void> {
    this.#ending.abort(new DOMException('the layers are being closed', 'AbortError'));
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    await Promise.all(sessions.map((session) => session.close()));
    await this.#p.mounts.close();
    await this.#p.trees.close();
  }

  async #provide(labels: LabelledImage, wish: LayerWish): Promise<ProvideOutcome> {
    const session = this.#session(labels);
    const key = sessionKey(labels);
    // A layer that is unpacked may take longer than a session that nobody uses lives.
    this.#sessions.set(key, session, { ttl: 0 });
    try {
      const provide = () => session.use(() => this.#provideFrom(session, labels, wish));
      const { lazily } = this.#p;
      return await (lazily === undefined ? provide() : lazily.lazy.yieldTo(provide));
    } finally {
      if (!session.isUsed && this.#sessions.peek(key) === session) this.#sessions.set(key, session);
    }
  }

  async #provideFrom(session: ImageSession, labels: LabelledImage, wish: LayerWish): Promise<ProvideOutcome> {
    const { chainId, below, signal } = wish;
    const { image: resolved } = await session.resolve({ signal });
    const image = session.image;
    const position = positionOf(resolved, chainId, below.length, labels.layer, image);
    if (typeof position !== 'number') return { ...position, image, layer: labels.layer };
    const layer = resolved.manifest.layers[position]?.digest as Digest;
    let outcome = await session.take(position, wish);
    if (outcome.kind === 'open') {
      const served = await this.#serve(outcome.lease, wish);
      if (typeof served === 'number') return { kind: 'served', slot: served, image, layer };
      outcome = await session.unpack(position, served.reason, wish);
    }
    return { ...outcome, image, layer };
  }

  /** The slot, or why the layer has to be unpacked. Errors: those of trees and mounts; the signal's reason. */
  async #serve(lease: LayerLease, { below, signal }: LayerWish): Promise<number | { readonly reason: string }> {
    const { digest } = lease.layer.descriptor;
    try {
      const slot = await this.#turns.run(digest, () => this.#mount(lease, below, signal));
      this.#p.state.layers.touch([digest]);
      return slot;
    } catch (error) {
      if (this.#unpacks === undefined || !isTreeless(error)) throw error;
      return deferralOf(error);
    }
  }

  async #tellStart({ slots, image, manifest }: ContainerStart): Promise<void> {
    const { mounts, state, content, openOrigin, onStart } = this.#p;
    if (onStart === undefined) return;
    const read = slots.map((slot) => mounts.get(slot)).filter((entry) => entry?.mounted.direct === false);
    const layers = read.flatMap((entry) => (entry?.lease === undefined ? [] : [{ layer: entry.lease.layer }]));
    if (layers.length === 0) return;
    const known = { images: state.images, content, openOrigin };
    const digest = manifest ?? (await knownManifest(known, image, { signal: this.#ending.signal }));
    onStart({ reference: image, image: digest, layers });
  }

  /** The lease is the mount's; without one it is given back. */
  async #mount(lease: LayerLease, below: LayerWish['below'], signal: AbortSignal): Promise<number> {
    const { trees, mounts, userXattr } = this.#p;
    try {
      const request = { layer: layerRef(lease.layer), below: this.#below(below), base: below.length === 0, userXattr };
      const tree = await trees.compiled(request, { signal });
      signal.throwIfAborted();
      const slot = await mounts.mount(tree, lease, (claimed) => this.#pins.add(claimed));
      this.#pins.renew(slot);
      return slot;
    } catch (error) {
      await lease.release();
      throw error;
    }
  }

  #below(slots: LayerWish['below']): LayerRef[] | undefined {
    const refs: LayerRef[] = [];
    for (const slot of slots) {
      const layer = slot === undefined ? undefined : this.#p.mounts.get(slot)?.lease?.layer;
      if (layer === undefined) return undefined;
      refs.push(layerRef(layer));
    }
    return refs;
  }

  /** Undefined when layers are served or left to containerd. */
  get #unpacks(): Unpacker | undefined {
    const { unpacker, config } = this.#p;
    return config.mode === 'eager' || config.mode === 'lazy-else-eager' ? unpacker : undefined;
  }

  #sessionUnpacking({ index }: LabelledImage): SessionUnpacking | undefined {
    const { config, localBlobs, userXattr, onBuilt, log } = this.#p;
    const { mode, formats } = config;
    const unpacker = this.#unpacks;
    if (unpacker === undefined) return undefined;
    const isIndexed = isAnyFormatOn(formats) || index !== undefined;
    const when = mode === 'eager' || !isIndexed ? 'always' : 'not lazy';
    return { unpacker, when, localBlobs, userXattr, onBuilt, log };
  }

  get #prefer(): SessionDeps['prefer'] {
    const { lazily } = this.#p;
    return lazily?.profiles() === true ? (layer, spans) => lazily.lazy.prefer(layer, spans) : undefined;
  }

  #session(labels: LabelledImage): ImageSession {
    const { state, store, open, content, openOrigin, log, config, trees, mounts, userXattr } = this.#p;
    const key = sessionKey(labels);
    const known = this.#sessions.get(key);
    if (known !== undefined) return known;
    // In the time in which containerd has the layers below: it is asked for them one by one.
    const onOpened = (layer: LayerRef, below: readonly LayerRef[]) => {
      const request = { layer, below, base: below.length === 0, userXattr };
      void trees.compiled(request, { signal: this.#ending.signal }).catch(() => {});
    };
    const deps = {
      state,
      store,
      open,
      content,
      openOrigin,
      log,
      onOpened,
      onTree: (made: MadeTree) => trees.give(made),
      userXattr,
      unpacking: this.#sessionUnpacking(labels),
      prefer: this.#prefer,
      lazy: this.#p.lazily?.lazy,
      ...config,
    };
    if (config.mode !== 'eager') {
      void mounts.prepare();
      this.#p.jobs?.expect?.();
    }
    const session = new ImageSession(deps, labels);
    this.#sessions.set(key, session);
    return session;
  }
}

function sessionKey({ reference, manifest, index }: LabelledImage): string {
  return JSON.stringify([formatReference(reference), manifest, index]);
}

function isTimeout(reason: unknown): boolean {
  return reason instanceof Error && reason.name === 'TimeoutError';
}

/** Which of the image's layers the chain ID is, whatever the labels say besides; content goes by this alone. */
function positionOf(
  { manifest, diffIds }: ResolvedImage,
  chainId: Digest | string,
  below: number,
  told: Digest | undefined,
  image: string,
): number | Deferral {
  const position = chainIds(diffIds).findIndex((id) => id === chainId);
  const digest = manifest.layers[position]?.digest;
  if (digest === undefined) return defer('labels', `${image} has no layer with the chain ID ${chainId}`);
  if (told !== undefined && told !== digest)
    return defer('labels', `the labels say layer ${told}, but chain ID ${chainId} of ${image} is layer ${digest}`);
  if (below !== position)
    return defer(
      'labels',
      `layer ${digest} of ${image} has ${position} layers below it, but was asked for above ${below}`,
    );
  return position;
}
