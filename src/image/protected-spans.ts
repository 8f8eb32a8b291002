import type { Digest } from '../oci/digest.ts';

/** Spans that somebody is about to need, e.g. a container that starts. */
export class ProtectedSpans {
  readonly #sets = new Map<Digest, Set<ReadonlySet<number>>>();

  /** Returns what ends it. */
  add(layer: Digest, spans: Iterable<number>): () => void {
    const set = new Set(spans);
    const sets = this.#sets.get(layer) ?? new Set();
    this.#sets.set(layer, sets.add(set));
    return () => {
      sets.delete(set);
      if (sets.size === 0 && this.#sets.get(layer) === sets) this.#sets.delete(layer);
    };
  }

  /** Can be passed on by itself. */
  readonly has = (layer: Digest, span: number): boolean => {
    for (const set of this.#sets.get(layer) ?? []) if (set.has(span)) return true;
    return false;
  };
}
