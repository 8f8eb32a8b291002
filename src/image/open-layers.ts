import type { Layer } from '../layer/layer.ts';
import type { Digest } from '../oci/digest.ts';

/** Somebody's use of an open layer. */
export interface LayerLease {
  readonly layer: Layer;
  /** Closes the layer when nobody else uses it. Idempotent. */
  release(): Promise<void>;
}

interface Entry {
  readonly opening: Promise<Layer | undefined>;
  users: number;
}

/** The layers that this process has open, each once however many use it. */
export class OpenLayers {
  readonly #entries = new Map<Digest, Entry>();

  /**
   * The layer, opened by `open` when it is not open yet; undefined when `open` says so. Who finds somebody else opening it, and
   * that to fail, tries himself. Errors: those of `open`.
   */
  async acquire(digest: Digest, open: () => Promise<Layer | undefined>): Promise<LayerLease | undefined> {
    for (;;) {
      const known = this.#entries.get(digest);
      const entry = known ?? this.#open(digest, open);
      entry.users += 1;
      let layer: Layer | undefined;
      try {
        layer = await entry.opening;
      } catch (error) {
        if (known === undefined) throw error;
        continue;
      }
      if (layer !== undefined) return this.#lease(digest, entry, layer);
      if (known === undefined) return undefined;
    }
  }

  #open(digest: Digest, open: () => Promise<Layer | undefined>): Entry {
    const entry: Entry = { opening: open(), users: 0 };
    this.#entries.set(digest, entry);
    const forget = () => {
      if (this.#entries.get(digest) === entry) this.#entries.delete(digest);
    };
    entry.opening.then((layer) => {
      if (layer === undefined) forget();
    }, forget);
    return entry;
  }

  #lease(digest: Digest, entry: Entry, layer: Layer): LayerLease {
    let held = true;
    const release = async () => {
      if (!held) return;
      held = false;
      entry.users -= 1;
      if (entry.users > 0) return;
      if (this.#entries.get(digest) === entry) this.#entries.delete(digest);
      await layer.close();
    };
    return { layer, release };
  }
}
