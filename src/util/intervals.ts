/** A set of points of a line, kept as its separate stretches. Cheap where stretches come about in their order. */
export class Intervals {
  /** Ascending, each [start, end), none touching the next. */
  readonly #stretches: [number, number][] = [];
  #total = 0;

  /** How long all stretches are together. */
  get total(): number {
    return this.#total;
  }

  /** Nothing is added when `end` is not after `start`. */
  add(start: number, end: number): void {
    if (!(end > start)) return;
    const stretches = this.#stretches;
    // Behind the last one that ends before this one starts.
    let first = stretches.length;
    while (first > 0 && (stretches[first - 1] as [number, number])[1] >= start) first -= 1;
    let [from, to] = [start, end];
    let after = first;
    for (; after < stretches.length; after += 1) {
      const [begin, finish] = stretches[after] as [number, number];
      if (begin > to) break;
      from = Math.min(from, begin);
      to = Math.max(to, finish);
      this.#total -= finish - begin;
    }
    this.#total += to - from;
    stretches.splice(first, after - first, [from, to]);
  }
}
