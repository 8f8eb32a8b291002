/** Permission to use `weight` units; give it back once, by calling it or with `using`. Giving back twice does nothing. */
export interface Permit extends Disposable {
  (): void;
}

export interface AcquireOptions {
  readonly signal?: AbortSignal | undefined;
}

interface Waiter {
  readonly weight: number;
  readonly grant: (permit: Permit) => void;
}

/** Counts units of something scarce (slots, bytes in flight). First come, first served: a heavy waiter is never overtaken. */
export class Semaphore {
  #capacity: number;
  #available: number;
  // A Set keeps the order of arrival and removes an aborted waiter in constant time.
  readonly #waiters = new Set<Waiter>();

  constructor(capacity: number) {
    if (!(capacity > 0)) throw new TypeError(`semaphore capacity must be positive: ${capacity}`);
    this.#capacity = capacity;
    this.#available = capacity;
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** What is held already stays held: with less capacity, nobody gets anything until enough came back. */
  resize(capacity: number): void {
    if (!(capacity > 0)) throw new TypeError(`semaphore capacity must be positive: ${capacity}`);
    this.#available += capacity - this.#capacity;
    this.#capacity = capacity;
    this.#grantWaiting();
  }

  get available(): number {
    return this.#available;
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  /**
   * Waits for `weight` units. A weight above the capacity takes all of it, so that one oversized piece of work runs alone
   * instead of waiting for ever. Errors: the signal's reason.
   */
  acquire(weight = 1, options: AcquireOptions = {}): Promise<Permit> {
    const { signal } = options;
    if (!(weight >= 0)) return Promise.reject(new TypeError(`semaphore weight must not be negative: ${weight}`));
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    const wanted = Math.min(weight, this.#capacity);
    if (this.#waiters.size === 0 && wanted <= this.#available) return Promise.resolve(this.#take(wanted));
    return new Promise<Permit>((resolve, reject) => {
      const waiter: Waiter = {
        weight: wanted,
        grant: (permit) => {
          signal?.removeEventListener('abort', onAbort);
          resolve(permit);
        },
      };
      const onAbort = () => {
        this.#waiters.delete(waiter);
        reject(signal?.reason as Error);
        // The one that left may have been what held back lighter waiters behind it.
        this.#grantWaiting();
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiters.add(waiter);
    });
  }

  /** Undefined when the units are not free right now or somebody is waiting already. */
  tryAcquire(weight = 1): Permit | undefined {
    const wanted = Math.min(weight, this.#capacity);
    return this.#waiters.size === 0 && wanted <= this.#available ? this.#take(wanted) : undefined;
  }

  /** Runs `work` holding `weight` units, and gives them back however it ends. */
  async run<T>(work: () => Promise<T>, options: AcquireOptions & { readonly weight?: number } = {}): Promise<T> {
    using _permit = await this.acquire(options.weight, options);
    return await work();
  }

  #take(weight: number): Permit {
    this.#available -= weight;
    let held = true;
    const release = () => {
      if (!held) return;
      held = false;
      this.#available += weight;
      this.#grantWaiting();
    };
    return Object.assign(release, { [Symbol.dispose]: release });
  }

  #grantWaiting(): void {
    for (const waiter of this.#waiters) {
      const weight = Math.min(waiter.weight, this.#capacity);
      if (weight > this.#available) return;
      this.#waiters.delete(waiter);
      waiter.grant(this.#take(weight));
    }
  }
}
