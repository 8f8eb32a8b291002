// Spans that wait to be asked for, by class, and which of them one request brings. No I/O, and no time.
import type { SpanTable } from '../index/layer-index.ts';
import { fetchClasses, urgency } from './fetch-class.ts';
import type { FetchClass } from './fetch-class.ts';
import { chooseRun } from './run.ts';
import type { RunLimits } from './run.ts';

export interface TakeOptions {
  readonly limits: RunLimits;
  /** Only spans of one kind go into one request. Default: all are alike. */
  readonly kind?: ((span: number) => unknown) | undefined;
  /** Nobody wants the span and it is missing: it is brought when it lies in a gap that is read through. Default: none is. */
  readonly isFree?: ((span: number) => boolean) | undefined;
}

/** Of one request; both ascending. */
export interface FetchRun {
  /** Not queued any more. */
  readonly queued: readonly number[];
  /** What lies between them and comes with them. */
  readonly free: readonly number[];
}

export class FetchQueue {
  readonly #spans: SpanTable;
  readonly #classOf = new Map<number, FetchClass>();
  /** Oldest first. */
  readonly #lanes = new Map<FetchClass, Set<number>>(fetchClasses.map((each) => [each, new Set<number>()]));

  constructor(spans: SpanTable) {
    this.#spans = spans;
  }

  /** At the end of its class; a span that is in another class leaves that. */
  add(span: number, fetchClass: FetchClass): void {
    const before = this.#classOf.get(span);
    if (before === fetchClass) return;
    if (before !== undefined) this.#lane(before).delete(span);
    this.#classOf.set(span, fetchClass);
    this.#lane(fetchClass).add(span);
  }

  delete(span: number): void {
    const fetchClass = this.#classOf.get(span);
    if (fetchClass === undefined) return;
    this.#classOf.delete(span);
    this.#lane(fetchClass).delete(span);
  }

  classOf(span: number): FetchClass | undefined {
    return this.#classOf.get(span);
  }

  size(fetchClass: FetchClass): number {
    return this.#lane(fetchClass).size;
  }

  /** Takes all of a class. */
  drain(fetchClass: FetchClass): number[] {
    const lane = this.#lane(fetchClass);
    const drained = [...lane];
    for (const span of drained) this.#classOf.delete(span);
    lane.clear();
    return drained;
  }

  /** Takes the span of a class that waited longest, and what comes with it in one request: spans of more urgent classes as its own. */
  take(fetchClass: FetchClass, { limits, kind = () => undefined, isFree = () => false }: TakeOptions): FetchRun {
    const [seed] = this.#lane(fetchClass);
    if (seed === undefined) return { queued: [], free: [] };
    const kindOfSeed = kind(seed);
    const rank = urgency(fetchClass);
    const isAlike = (span: number) => this.#classOf.has(span) && kind(span) === kindOfSeed;
    const wishes = {
      has: (span: number) => isAlike(span) && urgency(this.#classOf.get(span) ?? 'background') <= rank,
      isCompanion: isAlike,
    };
    const queued = chooseRun(this.#spans, wishes, seed, limits);
    const free: number[] = [];
    const last = queued.at(-1) ?? seed;
    const inRun = new Set(queued);
    for (let span = queued[0] ?? seed; span < last; span += 1) {
      if (!inRun.has(span) && !this.#classOf.has(span) && isFree(span)) free.push(span);
    }
    for (const span of queued) this.delete(span);
    return { queued, free };
  }

  #lane(fetchClass: FetchClass): Set<number> {
    const lane = this.#lanes.get(fetchClass);
    if (lane === undefined) throw new TypeError(`no class of fetching: ${fetchClass}`);
    return lane;
  }
}
