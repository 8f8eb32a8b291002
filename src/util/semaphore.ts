/** Permission to use `weight` units; give it back once, by calling it or with `using`. Giving back twice does nothing. */
export interface Permit extends Disposable {
  (): void;
}

export interface AcquireOptions {
  readonly signal?: AbortSignal | undefined;
  /** How urgent: a lower number goes first. Default 0, which alone may take what is reserved. */
  readonly priority?: number | undefined;
}

export interface SemaphoreOptions {
  /** Units that only priority 0 may take; always leaves one for the others. Default 0. */
  readonly reserve?: number | undefined;
}

interface Waiter {
  readonly weight: number;
  readonly priority: number;
  readonly grant: (permit: Permit) => void;
}

/**
 * Counts units of something scarce (slots, bytes in flight). First come, first served among equally urgent ones; a heavy waiter is overtaken
 * only by a more urgent one.
 */
export class Semaphore {
  #capacity: number;
  #available: number;
  readonly #reserve: number;
  // By priority, ascending. A Set keeps the order of arrival and removes an aborted waiter in constant time.
  readonly #lanes: { readonly priority: number; readonly waiters: Set<Waiter> }[] = [];

  constructor(capacity: number, { reserve = 0 }: SemaphoreOptions = {}) {
    checkCapacity(capacity);
    if (!(reserve >= 0)) throw new TypeError(`semaphore reserve must not be negative: ${reserve}`);
    this.#capacity = capacity;
    this.#available = capacity;
    this.#reserve = reserve;
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** What is held already stays held: with less capacity, nobody gets anything until enough came back. */
  resize(capacity: number): void {
    checkCapacity(capacity);
    this.#available += capacity - this.#capacity;
    this.#capacity = capacity;
    this.#grantWaiting();
  }

  get available(): number {
    return this.#available;
  }

  get waiting(): number {
    return this.#lanes.reduce((sum, { waiters }) => sum + waiters.size, 0);
  }

  /**
   * Waits for `weight` units. A weight above the capacity takes all of it, so that one oversized piece of work runs alone
   * instead of waiting for ever. Errors: the signal's reason.
   */
  acquire(weight = 1, { signal, priority = 0 }: AcquireOptions = {}): Promise<Permit> {
    if (!(weight >= 0)) return Promise.reject(new TypeError(`semaphore weight must not be negative: ${weight}`));
    if (!(priority >= 0)) return Promise.reject(new TypeError(`semaphore priority must not be negative: ${priority}`));
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    if (this.#isFree(weight, priority)) return Promise.resolve(this.#take(weight, priority));
    return new Promise<Permit>((resolve, reject) => {
      const waiter: Waiter = {
        weight,
        priority,
        grant: (permit) => {
          signal?.removeEventListener('abort', onAbort);
          resolve(permit);
        },
      };
      const { waiters } = this.#lane(priority);
      const onAbort = () => {
        waiters.delete(waiter);
        reject(signal?.reason as Error);
        // The one that left may have been what held back lighter waiters behind it.
        this.#grantWaiting();
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      waiters.add(waiter);
    });
  }

  /** Undefined when the units are not free right now or somebody as urgent is waiting already. */
  tryAcquire(weight = 1, { priority = 0 }: Pick<AcquireOptions, 'priority'> = {}): Permit | undefined {
    return this.#isFree(weight, priority) ? this.#take(weight, priority) : undefined;
  }

  /** Runs `work` holding `weight` units, and gives them back however it ends. */
  async run<T>(work: () => Promise<T>, options: AcquireOptions & { readonly weight?: number } = {}): Promise<T> {
    using _permit = await this.acquire(options.weight, options);
    return await work();
  }

  /** Whether nobody who is as urgent waits, and the units are there. */
  #isFree(weight: number, priority: number): boolean {
    if (this.#lanes.some((lane) => lane.priority <= priority && lane.waiters.size > 0)) return false;
    return this.#fits(weight, priority);
  }

  #fits(weight: number, priority: number): boolean {
    return this.#granted(weight, priority) <= this.#available - this.#keptFrom(priority);
  }

  #granted(weight: number, priority: number): number {
    return Math.min(weight, this.#capacity - this.#keptFrom(priority));
  }

  #keptFrom(priority: number): number {
    return priority === 0 ? 0 : Math.max(0, Math.min(this.#reserve, this.#capacity - 1));
  }

  #lane(priority: number): { readonly waiters: Set<Waiter> } {
    const at = this.#lanes.findIndex((lane) => lane.priority >= priority);
    const found = this.#lanes[at];
    if (found?.priority === priority) return found;
    const lane = { priority, waiters: new Set<Waiter>() };
    this.#lanes.splice(at < 0 ? this.#lanes.length : at, 0, lane);
    return lane;
  }

  #take(asked: number, priority: number): Permit {
    const weight = this.#granted(asked, priority);
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
    for (const { waiters } of this.#lanes) {
      for (const waiter of waiters) {
        if (!this.#fits(waiter.weight, waiter.priority)) return;
        waiters.delete(waiter);
        waiter.grant(this.#take(waiter.weight, waiter.priority));
      }
    }
  }
}

function checkCapacity(capacity: number): void {
  if (!(capacity > 0)) throw new TypeError(`semaphore capacity must be positive: ${capacity}`);
}
