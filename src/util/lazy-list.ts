/** What an asynchronous generator yields, by position: made in order, when it is first asked for, and once for all who ask. */
export class LazyList<T> {
  readonly #source: AsyncIterator<T, void>;
  readonly #made: Promise<T | undefined>[] = [];

  constructor(source: AsyncGenerator<T, void>) {
    this.#source = source;
  }

  /** Undefined behind the last one. Rejects as the generator does; it ends with that. */
  async at(position: number): Promise<T | undefined> {
    while (this.#made.length <= position) {
      const next = this.#source.next().then(({ done, value }) => (done === true ? undefined : value));
      // Whoever asks for a later one does not look at this one.
      next.catch(() => {});
      this.#made.push(next);
    }
    return await this.#made[position];
  }
}
