// What a link carries, from what arrives: bandwidth is the most that was seen of late, delay the least.
import type { Clock } from '../util/clock.ts';

/** A sample covers at least so much time in which requests were under way, ms. */
const sampleMs = 100;
const samplesKept = 10;
/** ms after which the delay must be measured again: by a request that has the link to itself, since any other also measures the queue. */
const delayKeptMs = 30_000;

export class LinkMeter {
  readonly #clock: Clock;
  /** Bytes per ms, oldest first. */
  readonly #samples: number[] = [];
  #active = 0;
  #activeSince = 0;
  #busyMs = 0;
  #bytes = 0;
  #wasFull = false;
  #delayMs: number | undefined;
  #delayAt = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Bytes per ms; 0 while nothing is known. */
  get bandwidth(): number {
    return Math.max(0, ...this.#samples);
  }

  /** ms from a request to its first byte; 0 while nothing is known. */
  get delayMs(): number {
    return this.#delayMs ?? 0;
  }

  /** Whether some sample shows what the link carries rather than what was asked of it. */
  get wasFull(): boolean {
    return this.#wasFull;
  }

  get isDelayStale(): boolean {
    return this.#delayMs !== undefined && this.#clock.now() - this.#delayAt > delayKeptMs;
  }

  /** A request is under way. */
  started(): void {
    if (this.#active === 0) this.#activeSince = this.#clock.now();
    this.#active += 1;
  }

  ended(): void {
    this.#active -= 1;
    if (this.#active === 0) this.#busyMs += this.#clock.now() - this.#activeSince;
  }

  /** `isFull`: more would have been asked for if the window had allowed it. */
  arrived(bytes: number, { isFull }: { readonly isFull: boolean }): void {
    this.#bytes += bytes;
    const now = this.#clock.now();
    const busyMs = this.#busyMs + (this.#active > 0 ? now - this.#activeSince : 0);
    if (busyMs < sampleMs) return;
    this.#sample(this.#bytes / busyMs, isFull);
    this.#bytes = 0;
    this.#busyMs = 0;
    this.#activeSince = now;
  }

  /** `isAlone`: nothing else was outstanding when the request was sent. */
  firstByte(ms: number, { isAlone }: { readonly isAlone: boolean }): void {
    const isNew = isAlone && this.isDelayStale;
    if (this.#delayMs !== undefined && ms > this.#delayMs && !isNew) return;
    this.#delayMs = ms;
    this.#delayAt = this.#clock.now();
  }

  /** A sample of a link that was not asked for more says nothing against what it carried before. */
  #sample(rate: number, isFull: boolean): void {
    if (!isFull && rate <= this.bandwidth) return;
    if (isFull) this.#wasFull = true;
    this.#samples.push(rate);
    if (this.#samples.length > samplesKept) this.#samples.shift();
  }
}
