// How full the cache is, between two measurements: those look at every file, this at two numbers.

/** Free bytes of the file system, and bytes that are known to have come, since the cache was measured. Pure. */
export class CacheLevel {
  #measured: number | undefined;
  #freeThen = 0;
  #free = 0;
  #landed = 0;

  /** It was measured: `used` bytes; what landed meanwhile may be in it or not. */
  measured(used: number, free: number): void {
    this.#measured = used;
    this.#freeThen = free;
    this.#free = free;
    this.#landed = 0;
  }

  free(bytes: number): void {
    this.#free = bytes;
  }

  landed(bytes: number): void {
    this.#landed += bytes;
  }

  /** Whether anything may have come or gone since. */
  get changed(): boolean {
    return this.#landed > 0 || this.#free !== this.#freeThen;
  }

  /**
   * Bytes; undefined before the first measurement. Never below what this process brought, and rather too much: what others write to the file
   * system counts until the next measurement.
   */
  get used(): number | undefined {
    if (this.#measured === undefined) return undefined;
    return this.#measured + Math.max(this.#landed, this.#freeThen - this.#free, 0);
  }
}
