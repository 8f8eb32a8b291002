/**
 * How often everything that shares it may try again. Each retry costs one, each success gives one back: a single slow answer is
 * retried as its policy says, while a server that answers nobody soon gets every request once only and is not kept down by us.
 */
export class RetryBudget {
  readonly #capacity: number;
  #left: number;

  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#left = capacity;
  }

  /** Whether one more retry is allowed; it is spent then. */
  take(): boolean {
    if (this.#left === 0) return false;
    this.#left -= 1;
    return true;
  }

  succeeded(): void {
    this.#left = Math.min(this.#capacity, this.#left + 1);
  }
}
