// Has spans fetched that are likely to be read next, as long as guessing pays.
import type { SpanTable } from '../index/layer-index.ts';
import type { LayerCache } from '../native/layer-cache.ts';
import { AccessPattern } from './access-pattern.ts';
import type { FetchClass } from './fetch-class.ts';
import type { FileMap } from './file-map.ts';
import type { Guess } from './guess.ts';
import { GuessLedger } from './guess-ledger.ts';
import { isHere } from './is-here.ts';
import type { LayerActivity, SpanFetch, Stall } from './layer-activity.ts';

/** What of a `Layer` it takes. */
export interface ReadAheadLayer {
  readonly spans: SpanTable;
  readonly cache: Pick<LayerCache, 'isPresent'>;
  readonly activity: LayerActivity;
  want(spans: Iterable<number>, fetchClass: FetchClass): void;
}

export interface ReadAheadOptions {
  readonly layer: ReadAheadLayer;
  /** Most bytes of blob that are asked for or fetched and not read, at any time. */
  readonly budget: number;
  /** Bytes of blob that there may be now whatever the budget says, as the cache has room; default any. */
  readonly room?: (() => number) | undefined;
  /** Without it only the order of spans tells what belongs together. */
  readonly files?: FileMap | undefined;
}

/** Bytes are bytes of blob. */
export interface ReadAheadStats {
  /** Spans that were asked for. */
  readonly wanted: number;
  readonly fetchedBytes: number;
  /** Of those fetched, what was read later or while it came. */
  readonly usedBytes: number;
  /** Asked for or fetched, and not read until now. */
  readonly openBytes: number;
  /** How many of those there may be as guesses are now. */
  readonly allowedBytes: number;
  /** Share of the bytes guessed that were read, the latest counting most; 0 to 1. */
  readonly accuracy: number;
}

export class ReadAhead {
  readonly #layer: ReadAheadLayer;
  readonly #pattern: AccessPattern;
  readonly #ledger: GuessLedger;
  /** Spans that came by read-ahead and are not read, with their bytes. */
  readonly #unread = new Map<number, number>();
  #wanted = 0;
  #fetchedBytes = 0;
  #usedBytes = 0;
  #stop: (() => void) | undefined;

  constructor({ layer, budget, room, files }: ReadAheadOptions) {
    this.#layer = layer;
    this.#pattern = new AccessPattern(layer.spans, files);
    this.#ledger = new GuessLedger(budget, room);
  }

  useFiles(files: FileMap): void {
    this.#pattern.useFiles(files);
  }

  /** Does nothing while it runs. */
  start(): void {
    this.#stop ??= this.#layer.activity.observe({
      touched: (spans, at) => this.#touched(spans, at),
      fetched: (fetch) => this.#fetched(fetch),
      stalled: (stalls) => this.#stalled(stalls),
    });
  }

  /** What is asked for already may still come. Idempotent. */
  stop(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  stats(): ReadAheadStats {
    return {
      wanted: this.#wanted,
      fetchedBytes: this.#fetchedBytes,
      usedBytes: this.#usedBytes,
      openBytes: this.#ledger.charged,
      allowedBytes: this.#ledger.allowance,
      accuracy: this.#ledger.accuracy,
    };
  }

  #touched(spans: Uint32Array, at: Float64Array): void {
    const wanted: number[] = [];
    for (const [i, span] of spans.entries()) {
      if (this.#pattern.isTouched(span)) continue;
      const time = at[i] ?? performance.now();
      this.#ledger.touched(span, time);
      this.#usedBytes += this.#unread.get(span) ?? 0;
      this.#unread.delete(span);
      this.#choose(this.#pattern.touch(span), time, wanted);
    }
    this.#want(wanted);
  }

  #stalled(stalls: readonly Stall[]): void {
    const wanted: number[] = [];
    for (const { offset, endedAt } of stalls) this.#choose(this.#pattern.read(offset), endedAt, wanted);
    this.#want(wanted);
  }

  #fetched({ span, fetchClass, bytes, landedAt }: SpanFetch): void {
    if (fetchClass !== 'read-ahead') {
      this.#ledger.landedOtherwise(span);
      return;
    }
    this.#fetchedBytes += bytes;
    if (this.#pattern.isTouched(span)) {
      this.#usedBytes += bytes;
      return;
    }
    this.#unread.set(span, bytes);
    this.#ledger.landed(span, bytes, landedAt);
  }

  #choose(guesses: readonly Guess[], at: number, wanted: number[]): void {
    const { spans, cache } = this.#layer;
    for (const { kind, from, to } of guesses) {
      if (from >= spans.streamSize) continue;
      for (let index = spans.spanAt(from); index < spans.count; index += 1) {
        const { streamStart, blobStart, blobEnd, decoder } = spans.span(index);
        if (streamStart >= to) break;
        // Such a span is the whole blob, whichever it is.
        if (decoder === 'sequential' || this.#pattern.isTouched(index) || isHere(cache, index)) continue;
        if (this.#ledger.guess(index, { kind, bytes: blobEnd - blobStart, at })) wanted.push(index);
      }
    }
  }

  #want(spans: readonly number[]): void {
    if (spans.length === 0) return;
    this.#wanted += spans.length;
    this.#layer.want(spans, 'read-ahead');
  }
}
