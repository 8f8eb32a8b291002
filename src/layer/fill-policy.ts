// Which layers of a node may be filled now, and how fast.
import { type DayHours, isWithin } from '../config/limits.ts';
import { Deferred } from '../util/deferred.ts';
import { type FillClock, sleepOr, systemFillClock } from './fill-clock.ts';
import { FillPlace } from './fill-place.ts';

export interface FillLimits {
  /** Bytes of blob per second, of all layers; 0: as many as come. */
  readonly bandwidth: number;
  /** Undefined: always. */
  readonly hours: DayHours | undefined;
}

export interface FillPolicyOptions {
  readonly limits: FillLimits;
  /** How many layers are filled at the same time; default 2. */
  readonly layersAtOnce?: number | undefined;
  readonly clock?: FillClock | undefined;
}

/** Whatever changes without telling is looked at so often, ms. */
const pollMs = 1000;

/** After what goes first something else that does so may follow, as one layer of an image follows another; but not for ever. ms. */
const lingerMs = 150;
const firstAtMostMs = 2_000;
/** Of all layers then: what uses the moments in which the processors have nothing else to do. */
const besideOthersBytes = 512 * 1024;

/** One for the node. The layers touched last are filled first. */
export class FillPolicy {
  readonly clock: FillClock;
  readonly #layersAtOnce: number;
  /** In the order of arrival. */
  readonly #places = new Set<FillPlace>();
  #limits: FillLimits;
  #allowed: () => string | undefined = () => undefined;
  #mostAsked: () => number = () => Infinity;
  /** Those that wait for their turn. One promise for all would remember everybody who ever waited for it. */
  readonly #waiting = new Map<FillPlace, Deferred<void>>();
  /** Bytes; below zero after a span that was larger than what there was. */
  #tokens = 0;
  #countedAt: number;
  /** What goes first: how many things, since when without a pause, and when the last one ended. */
  #first = { running: 0, since: -Infinity, endedAt: -Infinity };

  constructor({ limits, layersAtOnce = 2, clock = systemFillClock }: FillPolicyOptions) {
    this.clock = clock;
    this.#limits = limits;
    this.#layersAtOnce = layersAtOnce;
    this.#tokens = limits.bandwidth;
    this.#countedAt = clock.now();
  }

  /** Counts at once, also for those who wait. */
  configure(limits: FillLimits): void {
    this.#count();
    this.#limits = limits;
    this.#tokens = Math.min(this.#tokens, limits.bandwidth);
    this.#wake();
  }

  /**
   * `allowed`: why nothing may be filled now, like "cache is full", or undefined. It is asked often. `mostAsked`: bytes of blob that may be under way for
   * each layer, as they come whatever happens meanwhile; default any.
   */
  setAllowed(allowed: () => string | undefined, mostAsked: () => number = () => Infinity): void {
    this.#allowed = allowed;
    this.#mostAsked = mostAsked;
    this.#wake();
  }

  /** Why no layer is filled now; undefined when they may be. */
  get reason(): string | undefined {
    const { hours } = this.#limits;
    if (hours !== undefined && !isWithin(hours, this.clock.minute())) return 'not at this hour';
    return this.#allowed();
  }

  /** Somebody waits for `work`, which needs the processors: while it runs, and a moment longer, little is asked for; up to two seconds. */
  async yieldTo<T>(work: () => Promise<T>): Promise<T> {
    const first = this.#first;
    const now = this.clock.now();
    if (first.running === 0 && now - first.endedAt > lingerMs) first.since = now;
    first.running += 1;
    try {
      return await work();
    } finally {
      first.running -= 1;
      first.endedAt = this.clock.now();
    }
  }

  /** Bytes of blob that may be under way for one layer. */
  get mostAsked(): number {
    return Math.min(this.#mostAsked(), this.#yields ? besideOthersBytes : Infinity) / this.#layersAtOnce;
  }

  /** Bytes that one turn is for. */
  get turnBytes(): number {
    const { bandwidth } = this.#limits;
    return bandwidth === 0 ? Infinity : Math.max(1, bandwidth / 4);
  }

  /** A layer that is to be filled; it leaves with `leave()`. */
  enter(): FillPlace {
    const place: FillPlace = new FillPlace({
      turn: (signal) => this.#turn(place, signal),
      spend: (bytes) => void (this.#tokens -= this.#limits.bandwidth === 0 ? 0 : bytes),
      // It may be among the first now; all others are where they were, or behind.
      touched: () => this.#waiting.get(place)?.resolve(),
      rests: () => this.#wake(),
      leave: () => {
        this.#places.delete(place);
        this.#wake();
      },
    });
    this.#places.add(place);
    return place;
  }

  async #turn(place: FillPlace, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const waitMs = this.#waitMs(place);
      if (waitMs === 0) return;
      const changed = new Deferred<void>();
      this.#waiting.set(place, changed);
      try {
        await sleepOr(this.clock, waitMs, changed.promise, signal);
      } finally {
        if (this.#waiting.get(place) === changed) this.#waiting.delete(place);
      }
    }
  }

  #waitMs(place: FillPlace): number {
    if (this.reason !== undefined || !this.#isFirst(place)) return pollMs;
    const { bandwidth } = this.#limits;
    if (bandwidth === 0) return 0;
    this.#count();
    return this.#tokens > 0 ? 0 : Math.min(pollMs, Math.ceil((1000 * -this.#tokens) / bandwidth) + 1);
  }

  get #yields(): boolean {
    const { running, since, endedAt } = this.#first;
    const now = this.clock.now();
    return now < since + firstAtMostMs && (running > 0 || now < endedAt + lingerMs);
  }

  #isFirst(place: FillPlace): boolean {
    let ahead = 0;
    let arrivedBefore = true;
    for (const other of this.#places) {
      if (other === place) arrivedBefore = false;
      else if (
        !other.rests &&
        (other.touchedAt > place.touchedAt || (arrivedBefore && other.touchedAt === place.touchedAt))
      )
        ahead += 1;
    }
    return ahead < this.#layersAtOnce;
  }

  /** What was not used for a second is lost. */
  #count(): void {
    const now = this.clock.now();
    const { bandwidth } = this.#limits;
    this.#tokens = Math.min(bandwidth, this.#tokens + ((now - this.#countedAt) * bandwidth) / 1000);
    this.#countedAt = now;
  }

  #wake(): void {
    for (const changed of this.#waiting.values()) changed.resolve();
  }
}
