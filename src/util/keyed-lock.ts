import { Semaphore } from './semaphore.ts';
import type { AcquireOptions } from './semaphore.ts';

/** One piece of work at a time for each key, in the order of arrival. Keeps nothing of a key that nobody uses. */
export class KeyedLock<K> {
  readonly #locks = new Map<K, Semaphore>();

  get size(): number {
    return this.#locks.size;
  }

  /** Errors: what `work` throws; the reason of the signal when it is aborted while waiting. */
  async run<T>(key: K, work: () => Promise<T>, options: AcquireOptions = {}): Promise<T> {
    const lock = this.#locks.get(key) ?? new Semaphore(1);
    this.#locks.set(key, lock);
    try {
      return await lock.run(work, { signal: options.signal });
    } finally {
      if (lock.available === lock.capacity && this.#locks.get(key) === lock) this.#locks.delete(key);
    }
  }
}
