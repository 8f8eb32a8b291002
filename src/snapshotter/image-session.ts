// One image while it is being pulled: what it is, its index, and its layers, which open side by side although containerd asks for one
// after the other.
import { setMaxListeners } from 'node:events';
import type { LayerRef } from '../image/layer-trees.ts';
import { openOrigin } from '../image/open-image.ts';
import { resolveImage } from '../image/resolve.ts';
import type { ResolvedImage } from '../image/resolve.ts';
import { fetchSlots } from '../layer/permits.ts';
import { chainIds } from '../oci/chain-id.ts';
import type { Digest } from '../oci/digest.ts';
import { formatReference } from '../oci/reference.ts';
import type { Semaphore } from '../util/semaphore.ts';
import { untilAborted } from '../util/until-aborted.ts';
import { refLabel } from './committed-layer.ts';
import { defer } from './deferral.ts';
import type { LabelledImage } from './image-labels.ts';
import type { LayerWish } from './layer-provider.ts';
import { layerRef } from './layer-ref.ts';
import type { OpenOutcome, SessionDeps, SessionImage } from './session-deps.ts';
import { knownSource } from './session-layer.ts';
import { SessionOpener } from './session-opener.ts';
import type { Found } from './session-opener.ts';
import { preferProfile } from './session-profile.ts';
import { SessionUnpacks } from './session-unpacks.ts';
import type { UnpackOutcome, UnpackWish } from './session-unpacks.ts';

/** What comes unpacked or open is of whoever took it. */
export type LayerOutcome = OpenOutcome | UnpackOutcome | There;

/** A snapshot of it has appeared meanwhile. */
export interface There {
  readonly kind: 'there';
}

interface Opening {
  readonly promise: Promise<Found>;
  outcome: Found | undefined;
}

interface AskOptions {
  readonly signal: AbortSignal;
}

export type TakeOptions = AskOptions & Pick<LayerWish, 'namespace' | 'onUnpacking' | 'isThere'>;

export class ImageSession {
  readonly image: string;
  readonly #d: SessionDeps;
  readonly #labels: LabelledImage;
  /** Of the image's requests, and of its layers that open at once. */
  readonly slots: Semaphore;
  readonly #ending = new AbortController();
  readonly #openings = new Map<number, Opening>();
  /** Layers that containerd was told to unpack: asked for once more they mean a new pull, which looks for an index anew. */
  readonly #refused = new Set<number>();
  #resolving: Promise<SessionImage> | undefined;
  /** The position that was asked for first; undefined before that. What is below it is on the node in some form. */
  #first: number | undefined;
  readonly #opener: SessionOpener;
  readonly #unpacks: SessionUnpacks | undefined;
  #closed: Promise<void> | undefined;
  readonly #uses = new Set<Promise<unknown>>();
  /** Of the layers that have been open. */
  readonly #refs = new Map<number, LayerRef>();

  constructor(deps: SessionDeps, labels: LabelledImage) {
    this.#d = deps;
    this.#labels = labels;
    this.image = formatReference(labels.reference);
    this.slots = fetchSlots(deps.downloadsPerImage);
    this.#opener = new SessionOpener(deps, {
      index: labels.index,
      image: this.image,
      slots: this.slots,
      resolve: () => this.#resolve(),
      signal: this.#ending.signal,
    });
    this.#unpacks = deps.unpacking && new SessionUnpacks(deps.unpacking, this.image);
    setMaxListeners(0, this.#ending.signal);
  }

  /** Errors: ImageError; nothing of a failure is remembered. */
  resolve({ signal }: AskOptions): Promise<SessionImage> {
    return untilAborted(this.#resolve(), signal);
  }

  /** The layer at `position`, which is the caller's; all others begin to open with the first one. Errors: as `resolve`. */
  async take(position: number, options: TakeOptions): Promise<LayerOutcome> {
    const { image } = await this.resolve(options);
    if (this.#refused.has(position)) this.#startAnew();
    this.#unpacks?.askedBy(options.namespace);
    const isFirst = this.#first === undefined;
    this.#first = Math.min(position, this.#first ?? position);
    const opening = this.#opening(position);
    if (isFirst) {
      const all = [...image.manifest.layers.keys()].map((other) => this.#opening(other).promise);
      if (this.#d.prefer !== undefined) void this.#prefer(all).catch(() => {});
    }
    const found = await untilAborted(opening.promise, options.signal);
    // Of several that wait for it, the later ones open it once more, which costs them nothing.
    if (this.#openings.get(position) !== opening) return await this.take(position, options);
    this.#openings.delete(position);
    const outcome = found.kind === 'unpack' ? await this.unpack(position, found.reason, options) : found;
    if (outcome.kind === 'deferred') this.#refused.add(position);
    return outcome;
  }

  /** The layer at `position` in a directory, or why it cannot be had like that. Errors: as `resolve`. */
  async unpack(position: number, reason: string, options: TakeOptions): Promise<UnpackOutcome | There> {
    const { image } = await this.resolve(options);
    const wish = this.#unpackWish(image, position, reason);
    if (this.#unpacks === undefined || wish === undefined) return defer('error', reason);
    // Two images that share a layer may be pulled at once.
    if (options.isThere?.() === true) return { kind: 'there' };
    options.onUnpacking?.();
    return await this.#unpacks.take(position, wish, options);
  }

  /** Whoever asked went away: what is unpacked ahead for nobody else ends. */
  abandon(): void {
    this.#unpacks?.abandon();
  }

  get isUsed(): boolean {
    return this.#uses.size > 0;
  }

  /** Lets go of a layer that was opened ahead and not asked for. */
  async drop(layer: Digest): Promise<void> {
    for (const [position, { outcome }] of this.#openings) {
      if (outcome?.kind !== 'open' || outcome.lease.layer.descriptor.digest !== layer) continue;
      this.#openings.delete(position);
      await outcome.lease.release();
    }
  }

  /** Runs `work`, which uses the session and must not find it closed. */
  async use<T>(work: () => Promise<T>): Promise<T> {
    const running = work();
    this.#uses.add(running);
    try {
      return await running;
    } finally {
      this.#uses.delete(running);
    }
  }

  /** Ends what nobody asked for, once nobody uses it. Never rejects. */
  async retire(): Promise<void> {
    while (this.#uses.size > 0) await Promise.allSettled(this.#uses);
    await this.close();
  }

  /** Ends everything. Never rejects. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#ending.abort(new DOMException('nobody asked for the image any more', 'AbortError'));
    const openings = [...this.#openings.values()];
    this.#openings.clear();
    for (const { promise } of openings) {
      const outcome = await promise;
      if (outcome.kind === 'open') await outcome.lease.release();
    }
    await this.#unpacks?.close();
  }

  #resolve(): Promise<SessionImage> {
    if (this.#resolving !== undefined) return this.#resolving;
    const resolving = this.#load();
    this.#resolving = resolving;
    resolving.catch(() => {
      if (this.#resolving === resolving) this.#resolving = undefined;
    });
    return resolving;
  }

  async #load(): Promise<SessionImage> {
    const { state, content } = this.#d;
    const { reference, manifest } = this.#labels;
    const origin = await openOrigin(this.#d, this.image);
    const named = manifest === undefined ? reference : { ...reference, digest: manifest };
    const { signal } = this.#ending;
    const image = await resolveImage({ images: state.images, content }, origin, named, {
      platform: undefined,
      pull: 'always',
      signal,
    });
    for (const warning of image.warnings) this.#d.log.warn({ image: this.image }, warning);
    return { origin, image };
  }

  #startAnew(): void {
    this.#refused.clear();
    this.#opener.forgetIndexes();
    this.#first = undefined;
    for (const [position, { outcome }] of this.#openings) {
      if (outcome?.kind === 'deferred' || outcome?.kind === 'unpack') this.#openings.delete(position);
    }
    this.#unpacks?.forgetFailures();
  }

  #opening(position: number): Opening {
    const known = this.#openings.get(position);
    if (known !== undefined) return known;
    const opening: Opening = { promise: this.#opener.open(position), outcome: undefined };
    this.#openings.set(position, opening);
    void opening.promise.then((outcome) => {
      opening.outcome = outcome;
      if (outcome.kind === 'open') this.#opened(position, layerRef(outcome.lease.layer));
      if (outcome.kind === 'unpack') this.#unpackAhead(position, outcome.reason);
    });
    return opening;
  }

  /** Side by side with those that containerd asks for before. */
  #unpackAhead(position: number, reason: string): void {
    if (position < (this.#first ?? 0) || this.#ending.signal.aborted) return;
    this.#resolve()
      .then(({ image }) => {
        const wish = this.#unpackWish(image, position, reason);
        // Whoever asked for it meanwhile has it.
        if (wish === undefined || !this.#openings.has(position) || this.#isThere(image, position)) return;
        this.#unpacks?.begin(position, wish);
      })
      // It begins when it is asked for, or says then why not.
      .catch(() => {});
  }

  /** Whether some snapshot has it, above whatever: whoever needs another one will ask. */
  #isThere({ diffIds }: ResolvedImage, position: number): boolean {
    const chainId = chainIds(diffIds)[position] ?? '';
    return this.#d.state.snapshots.labelled(refLabel, chainId).some(({ kind }) => kind === 'committed');
  }

  #unpackWish(image: ResolvedImage, position: number, reason: string): UnpackWish | undefined {
    const { unpacking } = this.#d;
    const descriptor = image.manifest.layers[position];
    const diffId = image.diffIds[position];
    if (unpacking === undefined || descriptor === undefined || diffId === undefined) return undefined;
    const layer = descriptor.digest;
    const above = unpacking.userXattr ? 'overlay-user' : 'overlay';
    const form = position === 0 ? 'plain' : above;
    const onBuilt: UnpackWish['onBuilt'] = async (build, { signal }) =>
      await unpacking.onBuilt?.({ image, layer, build, signal });
    return { descriptor, diffId, source: knownSource(this.#d, descriptor), form, reason, onBuilt };
  }

  #opened(position: number, layer: LayerRef): void {
    if (this.#refs.has(position)) return;
    this.#refs.set(position, layer);
    for (let at = position, below = this.#below(at); below !== undefined; at += 1, below = this.#below(at)) {
      const ref = this.#refs.get(at);
      if (ref === undefined) return;
      this.#d.onOpened(ref, below);
    }
  }

  /** The layers below, when all of them have been open. */
  #below(position: number): LayerRef[] | undefined {
    const below: LayerRef[] = [];
    for (let at = 0; at < position; at += 1) {
      const ref = this.#refs.get(at);
      if (ref === undefined) return undefined;
      below.push(ref);
    }
    return below;
  }

  /** Never rejects. */
  async #prefer(all: readonly Promise<Found>[]): Promise<void> {
    const layers = (await Promise.all(all)).flatMap((found) => (found.kind === 'open' ? [found.lease.layer] : []));
    const discovery = await this.#opener.discovered();
    if (layers.length === 0 || this.#ending.signal.aborted) return;
    await preferProfile(this.#d, { ...(await this.#resolve()), layers, discovery, signal: this.#ending.signal });
  }
}
