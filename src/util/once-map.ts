import { untilAborted } from './until-aborted.ts';

export interface OnceOptions {
  /** Ends this caller's wait. The work itself is aborted only when nobody waits for it any more. */
  readonly signal?: AbortSignal | undefined;
}

interface Flight<V> {
  readonly promise: Promise<V>;
  readonly controller: AbortController;
  waiters: number;
}

/** Single flight: of the callers that ask for a key at the same time one does the work, and all get its result. Keeps nothing after. */
export class OnceMap<K, V> {
  readonly #flights = new Map<K, Flight<V>>();

  get size(): number {
    return this.#flights.size;
  }

  has(key: K): boolean {
    return this.#flights.has(key);
  }

  /** Errors: what `work` throws, for every caller; the reason of this caller's own signal. */
  async run(key: K, work: (signal: AbortSignal) => Promise<V>, options: OnceOptions = {}): Promise<V> {
    options.signal?.throwIfAborted();
    const flight = this.#flights.get(key) ?? this.#start(key, work);
    flight.waiters += 1;
    try {
      return await untilAborted(flight.promise, options.signal);
    } finally {
      flight.waiters -= 1;
      if (flight.waiters === 0 && this.#flights.get(key) === flight) {
        // Taken out at once, so that a caller coming now starts anew instead of joining work that is being aborted.
        this.#flights.delete(key);
        flight.controller.abort(new DOMException('nobody waits for the result', 'AbortError'));
      }
    }
  }

  #start(key: K, work: (signal: AbortSignal) => Promise<V>): Flight<V> {
    const controller = new AbortController();
    const promise = (async () => await work(controller.signal))();
    const flight: Flight<V> = { promise, controller, waiters: 0 };
    this.#flights.set(key, flight);
    const forget = () => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    };
    promise.then(forget, forget);
    return flight;
  }
}
