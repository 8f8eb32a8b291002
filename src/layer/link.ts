// The line to one registry, shared by the layers that come from it: what it carries, how much is outstanding on it, and who may ask for more.
// What somebody waits for is asked for at once; all else only while little is outstanding, so that the next demand finds a short queue.
import { systemClock } from '../util/clock.ts';
import type { Clock } from '../util/clock.ts';
import type { Semaphore } from '../util/semaphore.ts';
import { fetchClasses } from './fetch-class.ts';
import type { FetchClass } from './fetch-class.ts';
import { LinkMeter } from './link-meter.ts';
import { fetchSlots } from './permits.ts';
import type { RunLimits } from './run.ts';

const KiB = 1 << 10;
const MiB = 1 << 20;

/** Until the link was full once, and at the least and most after that. Bytes. */
const windowBytes = { start: 2 * MiB, min: 512 * KiB, max: 64 * MiB };
/** What may be outstanding beyond bandwidth x delay, so that the link does not run dry between two turns of ours. ms. */
const slackMs = 25;
/** Room to find out that the link carries more. */
const gain = 1.25;
/** While a demand is under way the rest keeps the line busy, no more: the next demand finds no longer queue than that. */
const besideDemandBytes = 256 * KiB;
/** Of one request. */
export const maxRunBytes = 8 * MiB;
/** A class that got nothing for so long gets one request. ms. */
export const patienceMs = 5_000;

export interface LinkOptions {
  /** Requests at once. Default 8. */
  readonly requests?: number | undefined;
  readonly clock?: Clock | undefined;
}

export interface AdmitOptions {
  readonly signal: AbortSignal;
  /** Bytes of blob. */
  readonly least: number;
}

interface Waiter {
  readonly fetchClass: FetchClass;
  readonly since: number;
  readonly least: number;
  readonly grant: (ticket: LinkTicket) => void;
}

/** Leave to make one request. Ends with `begin` or `cancel`. */
export interface LinkTicket {
  /** It waited for long: now it is as urgent as a demand. */
  readonly isOverdue: boolean;
  /** The request for `bytes` is being sent. The caller ends the transfer. */
  begin(bytes: number): LinkTransfer;
  /** Nothing will be asked for. Idempotent, and nothing after `begin`. */
  cancel(): void;
}

/** One request under way. */
export interface LinkTransfer {
  received(bytes: number): void;
  /** Nothing comes: until something does, nobody waits for what is outstanding. */
  idle(): void;
  /** Idempotent. */
  end(): void;
}

export class Link {
  /** Requests at once to this registry. */
  readonly slots: Semaphore;
  readonly #clock: Clock;
  readonly #meter: LinkMeter;
  /** Of each class, in the order of arrival: of the first in its class nobody is before, so that only those are looked at. */
  readonly #waiters = new Map(fetchClasses.map((each) => [each, new Set<Waiter>()]));
  /** By class, when it was last let through. */
  readonly #lastGrant = new Map<FetchClass, number>();
  /** Bytes that requests under way have yet to bring, and bytes that were promised to requests not sent yet. */
  #outstanding = 0;
  #promised = 0;
  /** Demands that are under way, and that wait for a lease. */
  #demands = 0;
  #demandsWaiting = 0;
  #cancelTimer: (() => void) | undefined;
  readonly #returnListeners = new Set<() => void>();

  constructor({ requests = 8, clock = systemClock }: LinkOptions = {}) {
    this.#clock = clock;
    this.#meter = new LinkMeter(clock);
    this.slots = fetchSlots(requests);
  }

  /** Bytes per second; 0 while nothing is known. */
  get bandwidth(): number {
    return this.#meter.bandwidth * 1000;
  }

  /** ms from a request to its first byte, 0 while nothing is known. */
  get delayMs(): number {
    return this.#meter.delayMs;
  }

  /** Bytes. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** Bytes that may be outstanding before a request that nobody waits for may start. */
  get window(): number {
    const { bandwidth, delayMs, wasFull } = this.#meter;
    const least = wasFull ? windowBytes.min : windowBytes.start;
    return clamp(bandwidth * (delayMs + slackMs) * gain, least, windowBytes.max);
  }

  runLimits(fetchClass: FetchClass): RunLimits {
    const { bandwidth, delayMs } = this.#meter;
    const maxGap = clamp((bandwidth * delayMs) / 2, 64 * KiB, MiB);
    if (fetchClass === 'demand') return { maxBytes: clamp(this.window / 2, MiB, maxRunBytes), maxGap };
    const least = this.#outstanding === 0 ? MiB : 256 * KiB;
    return { maxBytes: clamp(this.window / 4, least, maxRunBytes), maxGap };
  }

  /** Leave for a request that somebody waits for. */
  demand(): LinkTicket {
    this.#demandsWaiting += 1;
    return this.#ticket('demand', () => void (this.#demandsWaiting -= 1), { isOverdue: false });
  }

  /** Waits until a request of this class may be made, for `least` bytes or more. Errors: the signal's reason. */
  admit(fetchClass: FetchClass, { signal, least }: AdmitOptions): Promise<LinkTicket> {
    if (signal.aborted) return Promise.reject(signal.reason as Error);
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#lane(fetchClass).delete(waiter);
        reject(signal.reason as Error);
        this.#arm();
      };
      const waiter: Waiter = {
        fetchClass,
        since: this.#clock.now(),
        least,
        grant: (ticket) => {
          signal.removeEventListener('abort', onAbort);
          resolve(ticket);
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#lane(fetchClass).add(waiter);
      this.#grantWaiting();
    });
  }

  /** `listener` is called when the registry answers again after it was left alone. Returns what ends it. */
  onReturn(listener: () => void): () => void {
    this.#returnListeners.add(listener);
    return () => void this.#returnListeners.delete(listener);
  }

  /** The registry answers again. */
  returned(): void {
    for (const listener of this.#returnListeners) listener();
  }

  /** A request that goes along with one that has leave. */
  accompany(bytes: number): LinkTransfer {
    return this.#transfer(bytes, { isDemand: false });
  }

  #grantWaiting(): void {
    for (;;) {
      const overdue = this.#firsts()
        .filter((first) => this.#patienceLeft(first) <= 0)
        .toSorted((a, b) => a.since - b.since)[0];
      const waiter = overdue ?? this.#nextInTurn();
      if (waiter === undefined) break;
      this.#lane(waiter.fetchClass).delete(waiter);
      this.#lastGrant.set(waiter.fetchClass, this.#clock.now());
      const promised = Math.max(waiter.least, this.runLimits(waiter.fetchClass).maxBytes);
      this.#promised += promised;
      const { fetchClass } = waiter;
      waiter.grant(
        this.#ticket(fetchClass, () => void (this.#promised -= promised), { isOverdue: overdue !== undefined }),
      );
    }
    this.#arm();
  }

  #lane(fetchClass: FetchClass): Set<Waiter> {
    return this.#waiters.get(fetchClass) as Set<Waiter>;
  }

  /** Of each class that waits, the most urgent class first. */
  #firsts(): Waiter[] {
    return [...this.#waiters.values()].flatMap((lane) => {
      const [first] = lane;
      return first ?? [];
    });
  }

  /** The most urgent one, if there is room. */
  #nextInTurn(): Waiter | undefined {
    const [next] = this.#firsts();
    if (next === undefined || !this.#hasRoom()) return undefined;
    return next.fetchClass === 'background' && this.#demandsWaiting > 0 ? undefined : next;
  }

  #hasRoom(): boolean {
    const used = this.#outstanding + this.#promised;
    if (used === 0) return true;
    if (this.#demands === 0) return !this.#meter.isDelayStale && used < this.window;
    const { bandwidth, delayMs } = this.#meter;
    return used < Math.min(this.window, Math.max(besideDemandBytes, bandwidth * (delayMs + slackMs)));
  }

  /** ms until the class of the waiter has waited for too long. */
  #patienceLeft({ fetchClass, since }: Waiter): number {
    return Math.max(since, this.#lastGrant.get(fetchClass) ?? 0) + patienceMs - this.#clock.now();
  }

  /** Looks again when the next class will have waited for too long. */
  #arm(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    const firsts = this.#firsts();
    if (firsts.length === 0) return;
    const left = Math.min(...firsts.map((first) => this.#patienceLeft(first)));
    this.#cancelTimer = this.#clock.after(Math.max(1, left), () => {
      this.#cancelTimer = undefined;
      this.#grantWaiting();
    });
  }

  #ticket(fetchClass: FetchClass, spend: () => void, { isOverdue }: Pick<LinkTicket, 'isOverdue'>): LinkTicket {
    let isSpent = false;
    const spendOnce = () => {
      if (isSpent) return false;
      isSpent = true;
      spend();
      return true;
    };
    return {
      isOverdue,
      begin: (bytes) => {
        spendOnce();
        const transfer = this.#transfer(bytes, { isDemand: fetchClass === 'demand' });
        this.#grantWaiting();
        return transfer;
      },
      cancel: () => void (spendOnce() && this.#grantWaiting()),
    };
  }

  #transfer(bytes: number, { isDemand }: { readonly isDemand: boolean }): LinkTransfer {
    const sentAt = this.#clock.now();
    const isAlone = this.#outstanding === 0;
    let left = bytes;
    let state: 'waiting' | 'flowing' | 'idle' | 'ended' = 'waiting';
    const count = (sign: 1 | -1) => {
      this.#outstanding += sign * left;
      if (isDemand) this.#demands += sign;
      if (sign > 0) this.#meter.started();
      else this.#meter.ended();
    };
    count(1);
    let hasBegun = false;
    return {
      received: (arrived) => {
        if (state === 'ended') return;
        if (state === 'idle') count(1);
        state = 'flowing';
        if (!hasBegun) this.#meter.firstByte(this.#clock.now() - sentAt, { isAlone });
        hasBegun = true;
        const counted = Math.min(left, arrived);
        left -= counted;
        this.#outstanding -= counted;
        const isFull = this.#firsts().length > 0;
        this.#meter.arrived(arrived, { isFull });
        if (isFull) this.#grantWaiting();
      },
      idle: () => {
        if (state === 'idle' || state === 'ended') return;
        state = 'idle';
        count(-1);
        this.#grantWaiting();
      },
      end: () => {
        if (state === 'ended') return;
        if (state !== 'idle') count(-1);
        state = 'ended';
        this.#grantWaiting();
      },
    };
  }
}

function clamp(value: number, least: number, most: number): number {
  return Math.round(Math.min(most, Math.max(least, value)));
}
