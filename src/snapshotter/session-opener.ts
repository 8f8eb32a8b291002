// How single layers of an image that is being pulled become readable: by what is on the node, or by an index of the image.
import { filledLease } from '../image/filled-lease.ts';
import { IndexFinder } from '../image/index-finder.ts';
import type { Discovery } from '../image/index-finder.ts';
import type { ResolvedImage } from '../image/resolve.ts';
import { Semaphore } from '../util/semaphore.ts';
import { defer, deferralOf, isUnpackable } from './deferral.ts';
import type { LabelledImage } from './image-labels.ts';
import type { OpenOutcome, SessionDeps, SessionImage } from './session-deps.ts';
import { openSessionLayer, openShownLayer } from './session-layer.ts';

/** `unpack`: it is to be unpacked, for this reason. */
export type Found = OpenOutcome | { readonly kind: 'unpack'; readonly reason: string };

export interface SessionOpenerOptions {
  /** Named for the image. */
  readonly index: LabelledImage['index'];
  /** Its reference. */
  readonly image: string;
  /** Of the image's requests. */
  readonly slots: Semaphore;
  readonly resolve: () => Promise<SessionImage>;
  /** Nobody asks for the image any more. */
  readonly signal: AbortSignal;
}

export class SessionOpener {
  readonly #d: SessionDeps;
  readonly #o: SessionOpenerOptions;
  readonly #turns: Semaphore;
  #discovering: Promise<Discovery> | undefined;

  constructor(deps: SessionDeps, options: SessionOpenerOptions) {
    this.#d = deps;
    this.#o = options;
    this.#turns = new Semaphore(deps.downloadsPerImage);
  }

  /** Whoever opens a layer next looks for an index of the image anew. */
  forgetIndexes(): void {
    this.#discovering = undefined;
  }

  /** What was found of the image's indexes; undefined when nobody had to look. Never rejects. */
  async discovered(): Promise<Discovery | undefined> {
    return await this.#discovering?.catch(() => undefined);
  }

  /** Never rejects: a layer that fails is no reason for the others to. */
  async open(position: number): Promise<Found> {
    const { unpacking, lazy } = this.#d;
    const found = unpacking?.when === 'always' ? await this.#openShown(position) : await this.#openLazy(position);
    // Its mount comes after those of the layers below, and a container later still.
    if (found.kind === 'open' && lazy !== undefined) return { ...found, lease: filledLease(lazy, found.lease) };
    const isUnpacked = unpacking !== undefined && found.kind === 'deferred' && isUnpackable(found);
    return isUnpacked ? { kind: 'unpack', reason: found.reason } : found;
  }

  /** Never rejects. */
  async #openShown(position: number): Promise<OpenOutcome> {
    try {
      const { origin, image } = await this.#o.resolve();
      this.#learnSource(image, position);
      const where = { image, origin, position, slots: this.#o.slots, index: undefined };
      const lease = await openShownLayer(this.#d, where, { signal: this.#o.signal });
      if (lease !== undefined) return { kind: 'open', lease };
      return defer('no_index', 'no index is looked for: snapshotter.mode is "eager" in the configuration');
    } catch (error) {
      return deferralOf(error);
    }
  }

  /** Only now is it known that this repository has the layer for us. */
  #learnSource(image: ResolvedImage, position: number): void {
    const layer = image.manifest.layers[position]?.digest;
    if (layer !== undefined) this.#d.state.layerSources.put([layer], this.#o.image);
  }

  /** Never rejects. */
  async #openLazy(position: number): Promise<OpenOutcome> {
    const { signal } = this.#o;
    try {
      const { origin, image } = await this.#o.resolve();
      this.#learnSource(image, position);
      const where = { image, origin, position, slots: this.#o.slots, index: this.#o.index };
      return await this.#turns.run(
        () => openSessionLayer(this.#d, where, { discover: () => this.#discover(), signal }),
        { signal },
      );
    } catch (error) {
      return deferralOf(error);
    }
  }

  #discover(): Promise<Discovery> {
    if (this.#discovering !== undefined) return this.#discovering;
    const discovering = this.#find();
    this.#discovering = discovering;
    const forget = () => {
      if (this.#discovering === discovering) this.#discovering = undefined;
    };
    discovering.then(({ error }) => {
      if (error !== undefined) forget();
    }, forget);
    return discovering;
  }

  async #find(): Promise<Discovery> {
    const { state, content, formats, choice, log } = this.#d;
    const { origin, image } = await this.#o.resolve();
    return await new IndexFinder(state.indexes, content).find(origin, image, {
      mode: this.#o.index ?? 'auto',
      formats,
      choice,
      onWarning: (warning) => log.warn({ image: this.#o.image }, warning),
      signal: this.#o.signal,
    });
  }
}
