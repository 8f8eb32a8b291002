// Whether a transfer gets anywhere. A registry that gives a byte now and then would otherwise keep its reader for ever.
import type { Clock } from '../util/clock.ts';
import { Watchdog } from '../util/watchdog.ts';

export interface SignsOfLifeOptions {
  readonly clock: Clock;
  /** Fewer bytes than these are no sign that more will come. */
  readonly leastBytes: number;
  /** ms without such a sign after which it is to be given up. */
  readonly stallMs: number;
  readonly onStall: () => void;
  /** Nothing at all came for a second: it waits, it does not use the network. Once for each such silence. */
  readonly onIdle: () => void;
}

const idleMs = 1_000;

export class SignsOfLife {
  readonly #leastBytes: number;
  readonly #idle: Watchdog;
  readonly #stall: Watchdog;
  #unheard = 0;

  constructor({ clock, leastBytes, stallMs, onStall, onIdle }: SignsOfLifeOptions) {
    this.#leastBytes = leastBytes;
    this.#idle = new Watchdog(clock, idleMs, onIdle);
    this.#stall = new Watchdog(clock, stallMs, onStall);
  }

  arrived(bytes: number): void {
    this.#idle.heard();
    this.#unheard += bytes;
    if (this.#unheard < this.#leastBytes) return;
    this.#unheard = 0;
    this.#stall.heard();
  }

  /** Nothing more is to come; whoever works on what came may still be idle. */
  allCame(): void {
    this.#stall.stop();
  }

  stop(): void {
    this.#stall.stop();
    this.#idle.stop();
  }
}
