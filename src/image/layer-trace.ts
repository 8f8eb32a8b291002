// What happens to one layer during one start.
import { fetchClasses } from '../layer/fetch-class.ts';
import type { FetchClass } from '../layer/fetch-class.ts';
import type { SpanFetch, Stall } from '../layer/layer-activity.ts';
import type { Layer } from '../layer/layer.ts';
import { isHere } from '../layer/is-here.ts';
import { StartOrder } from '../layer/start-order.ts';
import type { FetchedTotal, TracedFetch, TracedLayer, TracedStall } from './start-trace.ts';

/** What is watched of a layer. */
export interface WatchedLayer extends Pick<Layer, 'descriptor' | 'spans' | 'activity' | 'row' | 'complete'> {
  readonly cache: Pick<Layer['cache'], 'isPresent'>;
}

/** Spans of a layer whose last transfer is kept: 16 GiB of stream at 256 KiB each. */
const maxKept = 65_536;

interface ClassTotal {
  spans: number;
  bytes: number;
  usedBytes: number;
}

export class LayerTrace {
  readonly layer: WatchedLayer;
  readonly fetched: Readonly<Record<FetchClass, ClassTotal>> = emptyTotals();
  touchedSpans = 0;
  neededBytes = 0;
  cachedBytes = 0;
  retries = 0;
  /** ms of `performance.now()` at which everything began. */
  readonly #base: number;
  readonly #order = new StartOrder();
  /** By span. */
  readonly #isPresent: Uint8Array;
  readonly #touchedAt: Float64Array;
  /** Place of the class in `fetchClasses`, and 1. */
  readonly #fetchedBy: Uint8Array;
  readonly #fetches = new Map<number, SpanFetch>();
  readonly #missingSpans: number;
  readonly #missingBytes: number;

  constructor(layer: WatchedLayer, base: number) {
    const { count } = layer.spans;
    this.layer = layer;
    this.#base = base;
    this.#touchedAt = new Float64Array(count).fill(Number.POSITIVE_INFINITY);
    this.#fetchedBy = new Uint8Array(count);
    this.#isPresent = Uint8Array.from({ length: count }, (_, span) => (isHere(layer.cache, span) ? 1 : 0));
    let [missing, bytes] = [0, 0];
    for (const [span, isPresent] of this.#isPresent.entries()) {
      if (isPresent) continue;
      missing += 1;
      bytes += this.#blobBytes(span);
    }
    this.#missingSpans = missing;
    this.#missingBytes = bytes;
  }

  /** Spans in the order they were first read. */
  get order(): readonly number[] {
    return this.#order.spans();
  }

  touched(spans: Uint32Array, at: Float64Array): void {
    this.#order.add(spans, at);
    for (const [i, span] of spans.entries()) {
      if (this.#touchedAt[span] !== Number.POSITIVE_INFINITY) continue;
      this.#touchedAt[span] = at[i] ?? 0;
      const bytes = this.#blobBytes(span);
      this.touchedSpans += 1;
      this.neededBytes += bytes;
      const fetchClass = fetchClasses[(this.#fetchedBy[span] ?? 0) - 1];
      if (fetchClass !== undefined) this.fetched[fetchClass].usedBytes += bytes;
      if (this.#isPresent[span]) this.cachedBytes += bytes;
    }
  }

  spanFetched(fetch: SpanFetch): void {
    const { span, fetchClass, bytes, retries } = fetch;
    const total = this.fetched[fetchClass];
    total.spans += 1;
    total.bytes += bytes;
    if (this.#touchedAt[span] !== Number.POSITIVE_INFINITY) total.usedBytes += bytes;
    this.retries += retries;
    this.#fetchedBy[span] = fetchClasses.indexOf(fetchClass) + 1;
    if (this.#fetches.size < maxKept || this.#fetches.has(span)) this.#fetches.set(span, fetch);
  }

  /** The stall with what came for it as far as that is known by now. `position`: of this layer. */
  stall(stall: Stall, position: number): TracedStall {
    const { offset, length, startedAt, endedAt, error } = stall;
    const { first, last } = this.#spansOf(offset, length);
    const { spans } = this.layer;
    const fetch = this.#fetchOf(first, last, stall);
    return {
      layer: position,
      offset,
      length,
      at: startedAt - this.#base,
      ms: endedAt - startedAt,
      ...(error === undefined ? {} : { error }),
      spanBytes: last < first ? 0 : spans.span(last).streamEnd - spans.span(first).streamStart,
      follows: first > 0 && (this.#touchedAt[first - 1] ?? Number.POSITIVE_INFINITY) < startedAt,
      ...(fetch === undefined ? {} : { fetch }),
    };
  }

  /** With the first `maxTouches` of what was read. */
  state(maxTouches: number): TracedLayer {
    const kept = this.order.slice(0, maxTouches);
    return {
      digest: this.layer.descriptor.digest,
      spans: this.layer.spans.count,
      streamBytes: this.layer.spans.streamSize,
      missingSpans: this.#missingSpans,
      missingBytes: this.#missingBytes,
      touched: kept.map((span) => [span, Math.round((this.#touchedAt[span] ?? 0) - this.#base)] as const),
      touchesLeftOut: this.touchedSpans - kept.length,
    };
  }

  #fetchOf(first: number, last: number, { startedAt, endedAt }: Stall): TracedFetch | undefined {
    const during: SpanFetch[] = [];
    for (let span = first; span <= last; span += 1) {
      const fetch = this.#fetches.get(span);
      if (fetch !== undefined && fetch.landedAt >= startedAt && fetch.sentAt <= endedAt) during.push(fetch);
    }
    const latest = during.toSorted((a, b) => b.landedAt - a.landedAt)[0];
    if (latest === undefined) return undefined;
    return {
      fetchClass: latest.fetchClass,
      bytes: during.reduce((sum, { bytes }) => sum + bytes, 0),
      askedAt: Math.min(...during.map(({ askedAt }) => askedAt)) - this.#base,
      sentAt: latest.sentAt - this.#base,
      retries: Math.max(...during.map(({ retries }) => retries)),
      source: latest.source,
    };
  }

  /** None, with `last` below `first`, for what is not of the stream. */
  #spansOf(offset: number, length: number): { readonly first: number; readonly last: number } {
    const { spans } = this.layer;
    const end = Math.min(offset + length, spans.streamSize);
    if (offset < 0 || end <= offset) return { first: 0, last: -1 };
    return { first: spans.spanAt(offset), last: spans.spanAt(end - 1) };
  }

  #blobBytes(span: number): number {
    const { decoder, blobStart, blobEnd } = this.layer.spans.span(span);
    // The range of each is the whole blob.
    if (decoder === 'sequential') return (blobEnd - blobStart) / this.layer.spans.count;
    return blobEnd - blobStart;
  }
}

export function emptyTotals(): Record<FetchClass, ClassTotal> {
  const total = (): ClassTotal => ({ spans: 0, bytes: 0, usedBytes: 0 }) satisfies FetchedTotal;
  return { demand: total(), 'read-ahead': total(), profile: total(), background: total() };
}
