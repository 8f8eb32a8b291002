// Fetches the rest of a layer with what the link has left, until it is complete and needs no registry.
import type { SpanTable } from '../index/layer-index.ts';
import type { LayerCache } from '../native/layer-cache.ts';
import type { Logger } from '../observe/log.ts';
import { Deferred } from '../util/deferred.ts';
import { errorMessage } from './errors.ts';
import type { FetchClass } from './fetch-class.ts';
import { sleepOr } from './fill-clock.ts';
import { FillOrder } from './fill-order.ts';
import type { FillPlace } from './fill-place.ts';
import type { FillPolicy } from './fill-policy.ts';
import { isHere } from './is-here.ts';
import type { LayerActivity } from './layer-activity.ts';

/** What of a `Layer` it takes. */
export interface FillableLayer {
  readonly spans: SpanTable;
  readonly cache: Pick<LayerCache, 'isPresent'>;
  readonly activity: LayerActivity;
  readonly complete: boolean;
  want(spans: Iterable<number>, fetchClass: FetchClass): void;
  forget?(fetchClass: FetchClass): void;
}

export interface LayerFillOptions {
  readonly layer: FillableLayer;
  readonly policy: FillPolicy;
  readonly log: Logger;
  /** For log lines. */
  readonly name?: string | undefined;
  readonly onComplete?: (() => void) | undefined;
}

/** Bytes of blob that are asked for at a time: enough that a fast link is never idle, and asked for anew when half of them are here. */
const mostAsked = 32 * 1024 * 1024;
/** What others brought is looked for so often. */
const pollMs = 1000;
/** When nothing came for so long, what is asked for was given up. */
const patienceMs = 60_000;
/** The first pause then; each is twice the one before. */
const firstPauseMs = 15_000;
const longestPauseMs = 600_000;
/** Hashing all of a layer does not take longer. */
const completionMs = 900_000;

export class LayerFill {
  readonly #o: LayerFillOptions;
  readonly #order: FillOrder;
  readonly #stopping = new AbortController();
  /** Spans with their bytes. */
  readonly #asked = new Map<number, number>();
  #askedBytes = 0;
  #landed = new Deferred<void>();
  #lastLandedAt = 0;
  #pauses = 0;
  #running: Promise<void> | undefined;

  constructor(options: LayerFillOptions) {
    this.#o = options;
    this.#order = new FillOrder(options.layer.spans);
  }

  /** Spans in the order in which they are to come, before all others. */
  prefer(spans: Iterable<number>): void {
    this.#order.prefer(spans);
  }

  get #most(): number {
    return Math.min(mostAsked, this.#o.policy.mostAsked);
  }

  /** Idempotent. */
  start(): void {
    this.#running ??= this.#run();
  }

  /**
   * What is asked for is taken back before this returns, so that another fill of the layer may begin; nothing runs any more when it resolves.
   * Idempotent; it cannot be started again.
   */
  async stop(): Promise<void> {
    this.#stopping.abort(new DOMException('filling was stopped', 'AbortError'));
    this.#takeBack();
    this.#running ??= Promise.resolve();
    await this.#running;
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    const { layer, policy, log, name } = this.#o;
    const { signal } = this.#stopping;
    const place = policy.enter();
    const unobserve = layer.activity.observe({
      touched: (spans, at) => {
        for (const span of spans) this.#order.touched(span);
        place.touched(at.at(-1) ?? 0);
      },
      fetched: ({ span }) => this.#here(span),
    });
    try {
      await this.#fill(place, signal);
      if (layer.complete) this.#o.onComplete?.();
    } catch (error) {
      if (!signal.aborted) log.warn({ layer: name, error: errorMessage(error) }, 'layer is not filled any more');
    } finally {
      unobserve();
      place.leave();
      this.#takeBack();
    }
  }

  #takeBack(): void {
    if (this.#asked.size > 0) this.#o.layer.forget?.('background');
    this.#asked.clear();
    this.#askedBytes = 0;
  }

  async #fill(place: FillPlace, signal: AbortSignal): Promise<void> {
    const { layer, policy } = this.#o;
    const { clock } = policy;
    let wholeSince: number | undefined;
    while (!layer.complete) {
      await this.#ask(place, signal);
      if (this.#asked.size > 0) wholeSince = undefined;
      else if (!this.#missedAgain()) {
        place.rest();
        wholeSince ??= clock.now();
        if (clock.now() - wholeSince > completionMs) return;
      }
      await this.#change(signal);
      if (this.#asked.size > 0 && clock.now() - this.#lastLandedAt > patienceMs) await this.#pause(place, signal);
    }
  }

  /** Asks for what there is room for. */
  async #ask(place: FillPlace, signal: AbortSignal): Promise<void> {
    const { layer, policy } = this.#o;
    if (this.#askedBytes > this.#most / 2) return;
    for (let first = this.#next(); first !== undefined; first = this.#next()) {
      this.#order.giveBack([first]);
      // Others may have come meanwhile, or be more urgent.
      await place.turn(signal);
      signal.throwIfAborted();
      const room = Math.min(policy.turnBytes, this.#most - this.#askedBytes);
      const spans: number[] = [];
      let bytes = 0;
      for (let span = this.#next(); span !== undefined; span = bytes < room ? this.#next() : undefined) {
        const { blobStart, blobEnd } = layer.spans.span(span);
        spans.push(span);
        bytes += blobEnd - blobStart;
        this.#asked.set(span, blobEnd - blobStart);
      }
      if (this.#asked.size === spans.length) this.#lastLandedAt = policy.clock.now();
      this.#askedBytes += bytes;
      place.spend(bytes);
      layer.want(spans, 'background');
      if (this.#askedBytes >= this.#most || layer.complete) return;
    }
  }

  #next(): number | undefined {
    let span = this.#order.next();
    while (span !== undefined && (this.#asked.has(span) || isHere(this.#o.layer.cache, span)))
      span = this.#order.next();
    return span;
  }

  /** Whether anything is missing that was given before: it was given up, or evicted since. */
  #missedAgain(): boolean {
    const { spans, cache } = this.#o.layer;
    const missing: number[] = [];
    for (let span = 0; span < spans.count; span += 1) if (!isHere(cache, span)) missing.push(span);
    this.#order.again(missing);
    return missing.length > 0;
  }

  #here(span: number): void {
    const bytes = this.#asked.get(span);
    if (bytes === undefined) return;
    this.#asked.delete(span);
    this.#askedBytes -= bytes;
    this.#lastLandedAt = this.#o.policy.clock.now();
    this.#pauses = 0;
    // Many small spans are asked for together.
    if (this.#askedBytes <= this.#most / 2) this.#landed.resolve();
  }

  /** Until there is room again, or a moment passed. */
  async #change(signal: AbortSignal): Promise<void> {
    const { layer, policy } = this.#o;
    await sleepOr(policy.clock, pollMs, this.#landed.promise, signal);
    this.#landed = new Deferred();
    for (const span of this.#asked.keys()) if (isHere(layer.cache, span)) this.#here(span);
  }

  /** What is asked for was given up by whoever fetches: later again, and other layers meanwhile. */
  async #pause(place: FillPlace, signal: AbortSignal): Promise<void> {
    const { policy, log, name } = this.#o;
    const ms = Math.min(longestPauseMs, firstPauseMs * 2 ** this.#pauses);
    this.#pauses += 1;
    log.debug({ layer: name, ms, spans: this.#asked.size }, 'nothing came, filling pauses');
    this.#order.giveBack([...this.#asked.keys()]);
    this.#takeBack();
    place.rest();
    await policy.clock.sleep(ms, signal);
  }
}
