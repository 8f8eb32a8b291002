/** More than any start-up touches: what comes later is no part of it. */
const maxSpans = 65_536;

/** The spans of one layer that one start touches, in the order of the first touches. */
export class StartOrder {
  readonly #at = new Map<number, number>();

  /** Touches, each with its time in ms of any one clock, as `LayerListener.touched` is told them. Batches may overlap. */
  add(spans: Uint32Array, at: Float64Array): void {
    for (const [i, span] of spans.entries()) {
      const time = at[i] ?? 0;
      const known = this.#at.get(span);
      if (known === undefined ? this.#at.size < maxSpans : time < known) this.#at.set(span, time);
    }
  }

  get size(): number {
    return this.#at.size;
  }

  /** Each once. */
  spans(): number[] {
    return [...this.#at].toSorted(([, a], [, b]) => a - b).map(([span]) => span);
  }
}
