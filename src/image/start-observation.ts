// Everything that happens to the layers of an image while it starts.
import { fetchClasses } from '../layer/fetch-class.ts';
import type { Stall } from '../layer/layer-activity.ts';
import { Intervals } from '../util/intervals.ts';
import { emptyTotals, LayerTrace } from './layer-trace.ts';
import type { WatchedLayer } from './layer-trace.ts';
import type { StartTotals, StartTrace, TracedStall } from './start-trace.ts';

/** What a trace has at most, so that its JSON stays below half a MB: reads that waited, and first reads over all layers. */
export const traceLimits = { stalls: 1024, touches: 8192 } as const;

interface SeenStall {
  readonly layer: number;
  readonly stall: Stall;
}

export class StartObservation {
  /** ms of `performance.now()`. */
  readonly base: number;
  readonly layers: readonly LayerTrace[];
  readonly #stops: (() => void)[] = [];
  #stalls: SeenStall[] = [];
  #stallCount = 0;
  #failedReads = 0;
  readonly #waited = new Intervals();
  readonly #fetching = new Intervals();
  #firstRead: number | undefined;
  #lastRead: number | undefined;
  #changes = 0;

  /** Watches from now on; a layer that occurs twice counts once. */
  constructor(layers: Iterable<WatchedLayer>, base: number) {
    this.base = base;
    this.layers = [...new Set(layers)].map((layer) => new LayerTrace(layer, base));
    for (const [position, trace] of this.layers.entries()) {
      const stop = trace.layer.activity.observe({
        touched: (spans, at) => {
          trace.touched(spans, at);
          for (const time of at) this.#read(time);
        },
        fetched: (fetch) => {
          trace.spanFetched(fetch);
          this.#fetching.add(fetch.sentAt, fetch.landedAt);
          this.#changes += 1;
        },
        stalled: (stalls) => stalls.forEach((stall) => this.#stalled(position, stall)),
      });
      this.#stops.push(stop);
    }
  }

  /** ms of `performance.now()`; undefined when nothing was read. */
  get firstRead(): number | undefined {
    return this.#firstRead;
  }

  /** When something was read that had not been read before, or was waited for, most recently. */
  get lastRead(): number | undefined {
    return this.#lastRead;
  }

  /** Grows with all that happens. */
  get changes(): number {
    return this.#changes;
  }

  /** `now`: ms of `performance.now()`. */
  trace(now: number, { over }: { readonly over: boolean }): StartTrace {
    const stalls = longest(this.#stalls)
      .map(({ layer, stall }) => (this.layers[layer] as LayerTrace).stall(stall, layer))
      .toSorted((a, b) => a.at - b.at);
    let touches: number = traceLimits.touches;
    const layers = this.layers.map((layer) => {
      const state = layer.state(touches);
      touches -= state.touched.length;
      return state;
    });
    return {
      version: 1,
      ms: Math.round(now - this.base),
      over,
      layers,
      stalls: stalls.map(rounded),
      stallsLeftOut: this.#stallCount - stalls.length,
      totals: this.#totals(),
    };
  }

  /** Watches no longer; what was seen stays. Idempotent. */
  stop(): void {
    for (const stop of this.#stops.splice(0)) stop();
  }

  #read(at: number): void {
    this.#firstRead ??= at;
    this.#lastRead = Math.max(this.#lastRead ?? at, at);
    this.#changes += 1;
  }

  #stalled(layer: number, stall: Stall): void {
    this.#read(stall.endedAt);
    this.#stallCount += 1;
    if (stall.error !== undefined) this.#failedReads += 1;
    this.#waited.add(stall.startedAt, stall.endedAt);
    this.#stalls.push({ layer, stall });
    if (this.#stalls.length >= 2 * traceLimits.stalls) this.#stalls = longest(this.#stalls);
  }

  #totals(): StartTotals {
    const sum = (pick: (layer: LayerTrace) => number) => this.layers.reduce((total, layer) => total + pick(layer), 0);
    const fetched = emptyTotals();
    for (const fetchClass of fetchClasses) {
      const total = fetched[fetchClass];
      total.spans = sum((layer) => layer.fetched[fetchClass].spans);
      total.bytes = sum((layer) => layer.fetched[fetchClass].bytes);
      total.usedBytes = sum((layer) => layer.fetched[fetchClass].usedBytes);
    }
    return {
      touchedSpans: sum((layer) => layer.touchedSpans),
      neededBytes: Math.round(sum((layer) => layer.neededBytes)),
      cachedBytes: Math.round(sum((layer) => layer.cachedBytes)),
      fetched,
      fetchingMs: Math.round(this.#fetching.total),
      retries: sum((layer) => layer.retries),
      stalls: this.#stallCount,
      failedReads: this.#failedReads,
      waitedMs: Math.round(this.#waited.total),
    };
  }
}

function longest(stalls: readonly SeenStall[]): SeenStall[] {
  const wait = ({ stall }: SeenStall) => stall.endedAt - stall.startedAt;
  return stalls.toSorted((a, b) => wait(b) - wait(a)).slice(0, traceLimits.stalls);
}

/** A tenth of a ms is less than the clocks of two threads agree on. */
function rounded(stall: TracedStall): TracedStall {
  const tenth = (ms: number) => Math.round(ms * 10) / 10;
  const { fetch } = stall;
  const times = fetch && { askedAt: tenth(fetch.askedAt), sentAt: tenth(fetch.sentAt) };
  return { ...stall, at: tenth(stall.at), ms: tenth(stall.ms), ...(fetch && { fetch: { ...fetch, ...times } }) };
}
