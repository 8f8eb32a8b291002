// Brings missing spans from the registry into the block cache: wanted spans are merged into few requests, several requests run
// at once, and a span is decoded as soon as its own bytes are in while the rest of the body still streams.
import { randomUUID } from 'node:crypto';
import type { Span, SpanTable } from '../index/layer-index.ts';
import type { DecodeRequest } from '../native/layer-cache.ts';
import type { Logger } from '../observe/log.ts';
import type { Digest } from '../oci/digest.ts';
import { backoffDelay } from '../util/backoff.ts';
import { Deferred } from '../util/deferred.ts';
import type { Semaphore } from '../util/semaphore.ts';
import { untilAborted } from '../util/until-aborted.ts';
import type { BlobSource } from './blob-source.ts';
import { LayerError, errorCode, errorMessage } from './errors.ts';
import type { FetchClass } from './fetch-class.ts';
import { isFinalFetchError, isSpanContentError, isWindowContentError, retryAfterMs } from './fetch-errors.ts';
import { acquireAll } from './permits.ts';
import { receiveRun } from './receive-run.ts';
import { chooseRun, defaultRunLimits } from './run.ts';
import type { RunLimits } from './run.ts';

/** The part of the block cache that the fetcher fills. */
export interface SpanSink {
  decode(request: DecodeRequest): Promise<number>;
  fail(span: number, errnoName: string): void;
  /** True also wakes the reads that wait for the span: another process may have brought it. */
  isPresent(span: number): boolean;
}

export interface FetcherOptions {
  /** For the log. */
  readonly layer: Digest;
  readonly spans: SpanTable;
  readonly sink: SpanSink;
  readonly source: BlobSource;
  /** Outermost last: a request holds one permit of each. */
  readonly slots: readonly Semaphore[];
  readonly log: Logger;
  /** ms from the moment a span is asked for until its readers get EIO. */
  readonly readDeadlineMs: number;
  readonly limits?: RunLimits | undefined;
  /** Requests of this layer at once, so that one unreachable layer cannot take all of an image's. */
  readonly maxRequests?: number | undefined;
  /** Called after each span that landed. */
  readonly onLanded: (span: number) => void;
  /** Called once per span that was given up because the bytes themselves are wrong. */
  readonly onSuspect: (why: string) => void;
}

interface Want {
  readonly deadline: number;
  /** What went wrong last, other than that time ran out. */
  why: string | undefined;
  attempts: number;
  wrong: number;
  /** Its bytes came, and its window did not. */
  lacksWindow: boolean;
  /** Of who waits for it other than through the sink. */
  settled: Deferred<void> | undefined;
}

/** Of one request. */
interface Transfer {
  readonly miss: string;
  readonly signal: AbortSignal;
  /** Spans that came without their windows, and why. */
  readonly windowless: Map<number, unknown>;
}

const backoff = { attempts: Infinity, baseMs: 100, maxMs: 5_000, maxRetryAfterMs: 60_000 };
/** A request that has brought nothing for so long gives its permits back: it waits, it does not use the network. */
const idleMs = 1_000;
const maxDecodes = 3;

class OutOfTime extends Error {}

export class SpanFetcher {
  readonly #o: FetcherOptions;
  readonly #wants = new Map<number, Want>();
  /** Wanted and in no request, oldest first. */
  readonly #queue = new Set<number>();
  readonly #closing = new AbortController();
  readonly #running = new Set<Promise<void>>();
  /** Of those that run, the ones that are about to take from the queue. */
  #seeking = 0;
  readonly #pauses = new Set<NodeJS.Timeout>();
  #pumping = false;
  #lastFailure: string | undefined;

  constructor(options: FetcherOptions) {
    this.#o = options;
  }

  /** Why reads failed last, for the message of the next error. */
  get lastFailure(): string | undefined {
    return this.#lastFailure;
  }

  /** Spans that readers wait for; one already asked for is not asked for again. */
  request(spans: Iterable<number>): void {
    if (this.#closing.signal.aborted) {
      for (const span of spans) this.#o.sink.fail(span, 'EIO');
      return;
    }
    const deadline = performance.now() + this.#o.readDeadlineMs;
    for (const span of spans) {
      if (this.#wants.has(span)) continue;
      this.#wants.set(span, {
        deadline,
        why: undefined,
        attempts: 0,
        wrong: 0,
        lacksWindow: false,
        settled: undefined,
      });
      this.#queue.add(span);
    }
    this.#pumpSoon();
  }

  /** Spans that are to be here; who reads one of them before it is waits for it as for any other. */
  want(spans: Iterable<number>, fetchClass: FetchClass): void {
    const missing = [...spans].filter((span) => !this.#o.sink.isPresent(span));
    if (fetchClass === 'demand') this.request(missing);
    else for (const span of missing) this.bring(span).catch(() => {});
  }

  /** Asks for a span and resolves when it is present. Errors: why it was given up; ERR_LAYER_CLOSED. */
  async bring(span: number): Promise<void> {
    if (this.#closing.signal.aborted) throw this.#closing.signal.reason;
    if (this.#o.sink.isPresent(span)) return;
    this.request([span]);
    const want = this.#wants.get(span);
    if (want !== undefined) await (want.settled ??= new Deferred()).promise;
  }

  /** Ends all transfers; readers still waiting get EIO. */
  async close(): Promise<void> {
    this.#closing.abort(new LayerError('ERR_LAYER_CLOSED', `${this.#o.source.name} was closed`));
    for (const timer of this.#pauses) clearTimeout(timer);
    await Promise.allSettled(this.#running);
    for (const [span, want] of this.#wants) {
      this.#o.sink.fail(span, 'EIO');
      want.settled?.reject(this.#closing.signal.reason);
    }
    this.#wants.clear();
    this.#queue.clear();
  }

  /** One turn later, so that misses that arrive together are merged. */
  #pumpSoon(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      // One that transfers may be stalled for long: what is in the queue now must not wait for it.
      while (this.#running.size < (this.#o.maxRequests ?? 6) && this.#seeking < this.#queue.size) {
        const runner = this.#runner().finally(() => {
          this.#running.delete(runner);
          if (this.#queue.size > 0) this.#pumpSoon();
        });
        this.#running.add(runner);
      }
    });
  }

  /** Takes runs from the queue while there are any. Never rejects. */
  async #runner(): Promise<void> {
    while (this.#queue.size > 0 && !this.#closing.signal.aborted) {
      this.#seeking += 1;
      const permits = await acquireAll(this.#o.slots, this.#closing.signal).catch(() => undefined);
      const run = permits === undefined ? [] : this.#nextRun();
      this.#seeking -= 1;
      try {
        if (permits === undefined) return;
        if (run.length > 0) await this.#fetch(run, permits);
      } finally {
        permits?.release();
      }
    }
  }

  #nextRun(): number[] {
    const [seed] = this.#queue;
    if (seed === undefined) return [];
    // Those that wait for their windows first hold up no others.
    const lacksWindow = this.#lacksWindow(seed);
    const wanted = { has: (span: number) => this.#queue.has(span) && this.#lacksWindow(span) === lacksWindow };
    const run = chooseRun(this.#o.spans, wanted, seed, this.#o.limits ?? defaultRunLimits);
    for (const span of run) this.#queue.delete(span);
    return run.filter((span) => !this.#arrived(span));
  }

  #lacksWindow(span: number): boolean {
    return this.#wants.get(span)?.lacksWindow === true;
  }

  /** Whether somebody else brought the span, so that nothing has to be done for it any more. */
  #arrived(span: number): boolean {
    if (!this.#o.sink.isPresent(span)) return false;
    this.#taken(span)?.resolve();
    return true;
  }

  /** Nobody wants the span any more. Returns who is to be told. */
  #taken(span: number): Deferred<void> | undefined {
    const settled = this.#wants.get(span)?.settled;
    this.#wants.delete(span);
    return settled;
  }

  async #fetch(run: readonly number[], permits: { release(): void }): Promise<void> {
    // Of this read miss, on every line about it.
    const miss = randomUUID().slice(0, 8);
    const started = performance.now();
    const left = new Set(run);
    /** What came without its window, and why; asked for again together. */
    const windowless = new Map<number, unknown>();
    const decoding = new Set<Promise<void>>();
    const deadline = Math.min(...run.map((span) => this.#wants.get(span)?.deadline ?? Infinity));
    const ending = new AbortController();
    const timer = setTimeout(
      () => ending.abort(new OutOfTime(`no answer within the read deadline of ${this.#o.readDeadlineMs / 1000} s`)),
      Math.max(0, deadline - performance.now()),
    );
    const idle = setTimeout(() => permits.release(), idleMs);
    const stallMs = this.#o.readDeadlineMs / 3;
    const stall = setTimeout(
      () => ending.abort(new OutOfTime(`no bytes for ${Math.round(stallMs / 1000)} s`)),
      stallMs,
    );
    const alive = () => {
      idle.refresh();
      stall.refresh();
    };
    const { signal } = ending;
    // A signal made of both would be remembered by the one that lives as long as the layer.
    const onClosing = () => ending.abort(this.#closing.signal.reason);
    this.#closing.signal.addEventListener('abort', onClosing, { once: true });
    const take = async (span: Span, data: Uint8Array) => {
      left.delete(span.index);
      bytes += data.length;
      const work = this.#decode(span, data, { miss, signal, windowless }).finally(() => decoding.delete(work));
      decoding.add(work);
      if (decoding.size >= maxDecodes) await Promise.race(decoding);
    };
    const { layer, spans, source, log } = this.#o;
    let failure: unknown;
    let bytes = 0;
    try {
      // Their requests are on their way before the one for the spans.
      spans.prepareWindows(run);
      for (const span of await this.#stillWindowless(run, { miss, signal, windowless })) left.delete(span);
      const ranges = [...left].map((span) => spans.span(span));
      if (ranges.length > 0) await receiveRun({ source, blobSize: spans.blobSize }, ranges, { signal, alive, take });
    } catch (error) {
      failure = signal.aborted ? signal.reason : error;
    } finally {
      clearTimeout(stall);
      // A span that is here may still wait for its window.
      await Promise.all(decoding);
      this.#closing.signal.removeEventListener('abort', onClosing);
      clearTimeout(timer);
      clearTimeout(idle);
    }
    const ms = Math.round(performance.now() - started);
    log.debug({ miss, layer, spans: run.length - left.size, bytes, ms, source: source.name }, 'spans fetched');
    if (failure !== undefined && left.size > 0) this.#retryOrFail([...left], failure, miss);
    if (windowless.size > 0) this.#retryWindowless(windowless, miss);
  }

  /** Those of a run whose bytes came in vain before and would again: they come only once their windows are here. Never rejects. */
  async #stillWindowless(run: readonly number[], transfer: Transfer): Promise<number[]> {
    const { spans } = this.#o;
    const { signal } = transfer;
    const lacking = run.filter((span) => this.#lacksWindow(span));
    const failed = lacking.map(async (span) => {
      try {
        await untilAborted(spans.window(span, { signal }), signal);
        return [];
      } catch (error) {
        this.#windowFailed(span, signal.aborted ? signal.reason : error, transfer);
        return [span];
      }
    });
    return (await Promise.all(failed)).flat();
  }

  /** Never rejects. */
  async #decode(span: Span, data: Uint8Array, transfer: Transfer): Promise<void> {
    const { miss, signal } = transfer;
    const { spans, sink, onLanded } = this.#o;
    const { index } = span;
    let window: Uint8Array | undefined;
    try {
      if (span.decoder === 'gzip-checkpoint') window = await untilAborted(spans.window(index, { signal }), signal);
    } catch (error) {
      this.#windowFailed(index, signal.aborted ? signal.reason : error, transfer);
      return;
    }
    try {
      if (span.decoder === 'sequential') {
        throw new LayerError('ERR_LAYER_UNSUPPORTED', `spans of kind ${span.decoder} cannot be fetched on their own`);
      }
      const openEnded = spans.openEnded && index === spans.count - 1;
      await sink.decode({
        span: index,
        decoder: span.decoder,
        bits: span.bits,
        data,
        window,
        sha256: span.sha256,
        openEnded,
      });
      const settled = this.#taken(index);
      onLanded(index);
      settled?.resolve();
    } catch (error) {
      this.#decodeFailed(index, error, miss);
    }
  }

  /** What brings it asked for a wrong window twice already. */
  #windowFailed(index: number, error: unknown, { miss, windowless }: Transfer): void {
    const { source } = this.#o;
    if (isWindowContentError(error)) {
      this.#fail([index], 'EIO', error, miss);
      this.#o.onSuspect(
        `the window of span ${index} of ${source.name} is not as its index says: ${errorMessage(error)}`,
      );
      return;
    }
    if (isFinalFetchError(error, 1)) this.#retryWindowless(new Map([[index, error]]), miss);
    else windowless.set(index, error);
  }

  /** `windowless`: at least one, with why. */
  #retryWindowless(windowless: ReadonlyMap<number, unknown>, miss: string): void {
    const [error] = windowless.values();
    for (const span of windowless.keys()) {
      const want = this.#wants.get(span);
      if (want !== undefined) want.lacksWindow = true;
    }
    // Without the index the layer may be readable.
    const message = `the windows of ${this.#o.source.name} cannot be had: ${errorMessage(error)}`;
    const told = new LayerError('ERR_LAYER_INDEX', message, { cause: error });
    this.#retryOrFail([...windowless.keys()], error, miss, told);
  }

  /** Bytes that are wrong are asked for once more, in case they were damaged on the way. */
  #decodeFailed(index: number, error: unknown, miss: string): void {
    const want = this.#wants.get(index);
    const { source, log } = this.#o;
    if (want !== undefined && isSpanContentError(error)) {
      want.wrong += 1;
      if (want.wrong === 1) {
        log.warn(
          { miss, span: index, blob: source.name, error: errorMessage(error) },
          'span is damaged, fetching it again',
        );
        this.#queue.add(index);
        this.#pumpSoon();
        return;
      }
      this.#fail([index], 'EIO', error, miss);
      this.#o.onSuspect(`span ${index} of ${source.name} does not match its index: ${errorMessage(error)}`);
      return;
    }
    const code = errorCode(error);
    this.#fail([index], code === 'ENOSPC' || code === 'EDQUOT' ? code : 'EIO', error, miss);
  }

  /** `told`: to who waits for the spans other than through the sink. */
  #retryOrFail(spans: number[], error: unknown, miss: string, told: unknown = error): void {
    if (this.#closing.signal.aborted) return;
    const now = performance.now();
    const again: number[] = [];
    const over: number[] = [];
    let attempts = 0;
    for (const span of spans) {
      const want = this.#wants.get(span);
      if (want === undefined || this.#arrived(span)) continue;
      want.attempts += 1;
      if (!(error instanceof OutOfTime)) want.why = errorMessage(error);
      attempts = Math.max(attempts, want.attempts);
      (want.deadline > now && !isFinalFetchError(error, want.attempts) ? again : over).push(span);
    }
    if (over.length > 0) this.#fail(over, 'EIO', error, miss, told);
    if (errorCode(error) === 'ERR_LAYER_SHORT') this.#o.onSuspect(errorMessage(error));
    if (again.length === 0) return;
    const { source, log } = this.#o;
    const delay = Math.max(50, retryAfterMs(error), backoffDelay(backoff, attempts, Math.random()));
    log.debug(
      { miss, blob: source.name, spans: again.length, attempts, delay, error: errorMessage(error) },
      'fetch failed, trying again',
    );
    // A read must end at its deadline even when the pause would last longer.
    const latest = Math.min(...again.map((span) => this.#wants.get(span)?.deadline ?? Infinity)) - now;
    const timer = setTimeout(
      () => {
        this.#pauses.delete(timer);
        if (delay >= latest) return this.#retryOrFail(again, error, miss, told);
        for (const span of again) this.#queue.add(span);
        this.#pumpSoon();
      },
      Math.min(delay, latest),
    );
    this.#pauses.add(timer);
  }

  #fail(spans: readonly number[], errno: string, error: unknown, miss: string, told: unknown = error): void {
    const { source, sink, log } = this.#o;
    const before = error instanceof OutOfTime ? this.#wants.get(spans[0] ?? -1)?.why : undefined;
    this.#lastFailure = before === undefined ? errorMessage(error) : `${errorMessage(error)}: ${before}`;
    log.error(
      { miss, blob: source.name, spans: spans.slice(0, 16), count: spans.length, errno, error: this.#lastFailure },
      'reads fail',
    );
    for (const span of spans) {
      const settled = this.#taken(span);
      sink.fail(span, errno);
      settled?.reject(told);
    }
  }
}
