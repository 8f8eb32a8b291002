import type { Evictable } from '../layer/evictable.ts';
import type { Digest } from '../oci/digest.ts';
import { cacheEntries, removeWhile } from './cache-service.ts';
import type { CacheDeps, CacheRemoval } from './cache-service.ts';
import { cacheUsage } from './cache-usage.ts';
import type { CacheStock } from './make-room.ts';
import { tidyTrees } from './tidy-trees.ts';

/** ms after its last use in which a layer that nobody has open stays: whoever made it may be about to open it. */
const graceMs = 30_000;
/** The same of a compiled tree that nobody shows: an image is mounted within that time, or starts to be. */
const treeGraceMs = 600_000;

/** The cache of a state directory. */
export class DiskStock implements CacheStock {
  readonly #d: CacheDeps;

  constructor(deps: CacheDeps) {
    this.#d = deps;
  }

  async usedBytes(): Promise<number> {
    return (await cacheUsage(this.#d.root)).total;
  }

  async removeWhole(more: (freedBytes: number) => boolean): Promise<CacheRemoval> {
    const { root, state } = this.#d;
    const now = Date.now();
    // What was used in the future was used before the clock was put back.
    const isRecent = (usedAt: number) => Math.abs(now - usedAt) <= graceMs;
    // First: nobody has to ask a registry for them.
    if (more(0)) await tidyTrees({ root, state, usedBefore: now - treeGraceMs });
    return await removeWhile(this.#d, await cacheEntries(root, state), more, ({ usedAt }) => !isRecent(usedAt));
  }

  async lazyLayers(): Promise<readonly Digest[]> {
    const { root, state } = this.#d;
    // What the kernel mounts by itself holds no lock on the file that it reads.
    const direct = new Set(state.slots.list().flatMap((slot) => (slot.direct ? [slot.layer] : [])));
    return (await cacheEntries(root, state)).map(({ digest }) => digest).filter((digest) => !direct.has(digest));
  }

  async withLazy<T>(layer: Digest, use: (evictable: Evictable) => Promise<T> | T): Promise<T | undefined> {
    return await this.#d.layers.withCache(layer, use);
  }
}
