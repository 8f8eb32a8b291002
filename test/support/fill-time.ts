import type { FillClock } from '../../src/layer/fill-clock.ts';

interface Sleeper {
  readonly until: number;
  readonly wake: () => void;
}

/** A clock that moves only by `pass()`. */
export class FillTime implements FillClock {
  #now = 0;
  readonly #sleepers = new Set<Sleeper>();
  /** Minutes after midnight. */
  minuteNow = 0;

  now(): number {
    return this.#now;
  }

  minute(): number {
    return this.minuteNow;
  }

  get sleeping(): number {
    return this.#sleepers.size;
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const sleeper = { until: this.#now + ms, wake: resolve };
      this.#sleepers.add(sleeper);
      signal.addEventListener('abort', () => {
        this.#sleepers.delete(sleeper);
        reject(signal.reason as Error);
      });
    });
  }

  /** Whoever sleeps until then goes on, one after the other. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settled();
    for (;;) {
      const next = [...this.#sleepers].filter(({ until }) => until <= end).sort((a, b) => a.until - b.until)[0];
      if (next === undefined) break;
      this.#sleepers.delete(next);
      this.#now = Math.max(this.#now, next.until);
      next.wake();
      await settled();
    }
    this.#now = end;
  }
}

/** All that can go on without time went on. */
export async function settled(): Promise<void> {
  await new Promise(setImmediate);
}
