// The layers of one image that are being unpacked: side by side, ahead of containerd, which asks for one after the other.
import { setMaxListeners } from 'node:events';
import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { LocalBlobs } from '../unpack/blob-feed.ts';
import type { UnpackedTree, UnpackLayerRequest, Unpacker } from '../unpack/unpacker.ts';
import { untilAborted } from '../util/until-aborted.ts';
import { deferralOf } from './deferral.ts';
import type { Deferral } from './deferral.ts';

export interface SessionUnpacksDeps {
  readonly unpacker: Unpacker;
  /** What containerd has of a namespace. */
  readonly localBlobs?: ((namespace: string) => LocalBlobs) | undefined;
  readonly log: Logger;
}

export interface UnpackWish extends Pick<UnpackLayerRequest, 'descriptor' | 'diffId' | 'source' | 'form' | 'onBuilt'> {
  /** Why the layer is not served, as a phrase. */
  readonly reason: string;
}

/** The tree is of whoever took the outcome. */
export type UnpackOutcome =
  | { readonly kind: 'unpacked'; readonly tree: UnpackedTree; readonly reason: string }
  | Deferral;

interface Unpacking {
  readonly controller: AbortController;
  /** Never rejects. */
  readonly promise: Promise<UnpackOutcome>;
  outcome: UnpackOutcome | undefined;
  takers: number;
}

export class SessionUnpacks {
  readonly #d: SessionUnpacksDeps;
  /** Reference: whom leases count for. */
  readonly #image: string;
  readonly #running = new Map<number, Unpacking>();
  /** Who asked last: containerd may have blobs for him. */
  #namespace: string | undefined;
  #closed = false;

  constructor(deps: SessionUnpacksDeps, image: string) {
    this.#d = deps;
    this.#image = image;
  }

  askedBy(namespace: string | undefined): void {
    this.#namespace = namespace ?? this.#namespace;
  }

  /** Begins ahead of whoever asks. What runs already goes on. */
  begin(position: number, wish: UnpackWish): void {
    this.#unpacking(position, wish);
  }

  /** Errors: the signal's reason, and what nobody else waits for then ends. */
  async take(position: number, wish: UnpackWish, { signal }: { readonly signal: AbortSignal }): Promise<UnpackOutcome> {
    const unpacking = this.#unpacking(position, wish);
    unpacking.takers += 1;
    try {
      const outcome = await untilAborted(unpacking.promise, signal);
      // Of several that wait for it the first has the tree; the others ask once more.
      if (this.#running.get(position) === unpacking) this.#running.delete(position);
      else if (outcome.kind === 'unpacked') return await this.take(position, wish, { signal });
      return outcome;
    } finally {
      unpacking.takers -= 1;
      if (signal.aborted) this.#endUnlessWanted(position, unpacking);
    }
  }

  /** Ends what nobody waits for: the jobs go on from there when somebody asks again. */
  abandon(): void {
    for (const [position, unpacking] of this.#running) this.#endUnlessWanted(position, unpacking);
  }

  /** Lets go of what failed ahead of whoever asks. */
  forgetFailures(): void {
    for (const [position, { outcome }] of this.#running)
      if (outcome?.kind === 'deferred') this.#running.delete(position);
  }

  /** Never rejects. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    const all = [...this.#running.values()];
    for (const [position, unpacking] of this.#running) this.#end(position, unpacking);
    await Promise.all(all.map(({ promise }) => promise));
  }

  #unpacking(position: number, wish: UnpackWish): Unpacking {
    const known = this.#running.get(position);
    if (known !== undefined) return known;
    const controller = new AbortController();
    setMaxListeners(0, controller.signal);
    const promise = this.#unpack(wish, controller.signal);
    const unpacking: Unpacking = { controller, promise, outcome: undefined, takers: 0 };
    void promise.then((outcome) => (unpacking.outcome = outcome));
    this.#running.set(position, unpacking);
    return unpacking;
  }

  async #unpack(wish: UnpackWish, signal: AbortSignal): Promise<UnpackOutcome> {
    const { descriptor, diffId, source, form, reason, onBuilt } = wish;
    const { unpacker, localBlobs, log } = this.#d;
    const local = this.#namespace === undefined ? undefined : localBlobs?.(this.#namespace);
    try {
      if (this.#closed) throw new DOMException('the image is not asked for any more', 'AbortError');
      const request = { descriptor, diffId, source, local, form, image: this.#image, onBuilt };
      return { kind: 'unpacked', tree: await unpacker.unpackLayer(request, { signal }), reason };
    } catch (error) {
      if (!signal.aborted)
        log.warn({ image: this.#image, layer: descriptor.digest, error: errorMessage(error) }, 'layer not unpacked');
      return deferralOf(error);
    }
  }

  #endUnlessWanted(position: number, unpacking: Unpacking): void {
    if (unpacking.takers === 0 && this.#running.get(position) === unpacking) this.#end(position, unpacking);
  }

  #end(position: number, unpacking: Unpacking): void {
    this.#running.delete(position);
    unpacking.controller.abort(new DOMException('nobody waits for the layer any more', 'AbortError'));
    void unpacking.promise.then((outcome) => {
      if (outcome.kind === 'unpacked') outcome.tree.release();
    });
  }
}
