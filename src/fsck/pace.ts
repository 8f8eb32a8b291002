import { setTimeout as delay } from 'node:timers/promises';

/** No faster than so many bytes per second. */
export class Pace {
  readonly #bytesPerSecond: number;
  readonly #now: () => number;
  /** ms of the clock at which what was taken so far may have been read. */
  #due: number | undefined;

  /** 0: as fast as it goes. `now` in ms. */
  constructor(bytesPerSecond: number, now: () => number = () => performance.now()) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#now = now;
  }

  /** Waits until `bytes` more may be read. A pause is not made good by a burst. Errors: the signal's reason. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#bytesPerSecond === 0) return;
    const now = this.#now();
    const due = Math.max(this.#due ?? now, now);
    this.#due = due + (bytes / this.#bytesPerSecond) * 1000;
    if (due > now) await delay(due - now, undefined, { signal, ref: false });
  }
}
