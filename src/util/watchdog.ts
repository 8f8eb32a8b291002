import type { Clock } from './clock.ts';

/** Tells when nothing was heard for `ms`: once for each silence. */
export class Watchdog {
  readonly #clock: Clock;
  readonly #ms: number;
  readonly #onSilence: () => void;
  #heardAt: number;
  #cancel: (() => void) | undefined;
  #isStopped = false;

  constructor(clock: Clock, ms: number, onSilence: () => void) {
    this.#clock = clock;
    this.#ms = ms;
    this.#onSilence = onSilence;
    this.#heardAt = clock.now();
    this.#arm(ms);
  }

  /** Cheap enough for every piece that arrives: the timer looks later whether there was any. */
  heard(): void {
    this.#heardAt = this.#clock.now();
    if (this.#cancel === undefined && !this.#isStopped) this.#arm(this.#ms);
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #arm(ms: number): void {
    this.#cancel = this.#clock.after(ms, () => {
      this.#cancel = undefined;
      const left = this.#heardAt + this.#ms - this.#clock.now();
      // A timer may come a fraction of a millisecond early.
      if (left >= 1) this.#arm(left);
      else this.#onSilence();
    });
  }
}
