// Brings missing spans from the registry into the block cache: wanted spans are merged into few requests, the most urgent ones first, and
// several requests run at once. The link to the registry says when a request that nobody waits for may start.
import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import type { SpanTable } from '../index/layer-index.ts';
import type { Logger } from '../observe/log.ts';
import type { Digest } from '../oci/digest.ts';
import { systemClock } from '../util/clock.ts';
import type { Clock } from '../util/clock.ts';
import { Semaphore } from '../util/semaphore.ts';
import type { BlobSource } from './blob-source.ts';
import { LayerError } from './errors.ts';
import { fetchClasses, urgency } from './fetch-class.ts';
import type { FetchClass } from './fetch-class.ts';
import { FetchFailures } from './fetch-failures.ts';
import { FetchQueue } from './fetch-queue.ts';
import type { SpanFetch } from './layer-activity.ts';
import { Link, maxRunBytes, patienceMs } from './link.ts';
import type { LinkTicket } from './link.ts';
import { isMemoryShort } from './memory-shortage.ts';
import { acquireAll, acquireInTime } from './permits.ts';
import type { Permits } from './permits.ts';
import type { RunLimits } from './run.ts';
import { SpanTransfer } from './span-transfer.ts';
import type { SpanSink, TransferEvents, TransferParts } from './span-transfer.ts';
import { SpanWants } from './span-wants.ts';
import type { Want } from './span-wants.ts';

export interface FetcherOptions {
  /** For the log. */
  readonly layer: Digest;
  readonly spans: SpanTable;
  readonly sink: SpanSink;
  readonly source: BlobSource;
  /** Outermost last: a request holds one permit of each. */
  readonly slots: readonly Semaphore[];
  /** Default one of its own. */
  readonly link?: Link | undefined;
  /** Bytes of blob that may be in memory to be decoded; default 32 MiB of its own. */
  readonly decodeBytes?: Semaphore | undefined;
  readonly clock?: Clock | undefined;
  readonly log: Logger;
  /** ms from the moment a span is asked for until its readers get EIO. */
  readonly readDeadlineMs: number;
  /** Default as the link has it. */
  readonly limits?: RunLimits | undefined;
  /** Called after each span that landed. */
  readonly onFetched: (fetch: SpanFetch) => void;
  /** Called once per span that was given up because the bytes themselves are wrong. */
  readonly onSuspect: (why: string) => void;
  /** The disk does not take spans. */
  readonly onRefused?: ((error: unknown) => void) | undefined;
}

/** Requests of this layer at once, so that one unreachable layer cannot take all of an image's: for readers, and for all else. */
const maxRequests = 6;
/** Bytes of blob in one request while memory is short. */
const shortRunBytes = 512 << 10;

export class SpanFetcher {
  readonly #o: FetcherOptions;
  readonly #clock: Clock;
  readonly #link: Link;
  readonly #parts: TransferParts;
  readonly #wants: SpanWants;
  readonly #queue: FetchQueue;
  readonly #closing = new AbortController();
  readonly #running = new Set<Promise<void>>();
  /** Those that run or wait for leave. */
  readonly #count = { demand: 0, other: 0 };
  /** Of those that run for readers, the ones that are about to take from the queue. */
  #seeking = 0;
  /** One of each other class waits for leave. */
  readonly #seekers = new Map<FetchClass, AbortController>();
  readonly #failures: FetchFailures;
  readonly #endReturns: () => void;
  #isPumping = false;

  constructor(options: FetcherOptions) {
    this.#o = options;
    const { spans, sink, source, readDeadlineMs, clock = systemClock, link = new Link({ clock }) } = options;
    this.#clock = clock;
    this.#link = link;
    const decodeBytes = options.decodeBytes ?? new Semaphore(32 << 20);
    this.#parts = { spans, sink, source, clock, decodeBytes, readDeadlineMs, closing: this.#closing.signal };
    this.#wants = new SpanWants(readDeadlineMs);
    this.#queue = new FetchQueue(spans);
    this.#failures = new FetchFailures({
      ...options,
      clock,
      wants: this.#wants,
      closing: this.#closing.signal,
      arrived: (span) => this.#arrived(span),
      enqueue: (want) => this.#enqueue(want),
    });
    this.#endReturns = link.onReturn(() => this.#failures.returned());
    // Every request listens.
    setMaxListeners(0, this.#closing.signal);
  }

  /** Why reads failed last, for the message of the next error. */
  get lastFailure(): string | undefined {
    return this.#failures.last;
  }

  /** Spans that readers wait for; one already asked for is not asked for again. */
  request(spans: Iterable<number>): void {
    if (this.#closing.signal.aborted) for (const span of spans) this.#o.sink.fail(span, 'EIO');
    else for (const span of spans) this.#ask(span, 'demand');
  }

  /**
   * Spans that are to be here; who reads one of them before it is waits for it as for any other. One that cannot be had is dropped after a few
   * attempts.
   */
  want(spans: Iterable<number>, fetchClass: FetchClass): void {
    if (this.#closing.signal.aborted) return;
    for (const span of spans) if (!this.#o.sink.isPresent(span)) this.#ask(span, fetchClass);
  }

  /** Asks for a span and resolves when it is present. Errors: why it was given up; ERR_LAYER_CLOSED. */
  async bring(span: number, fetchClass: FetchClass = 'demand'): Promise<void> {
    if (this.#closing.signal.aborted) throw this.#closing.signal.reason;
    if (this.#o.sink.isPresent(span)) return;
    this.#ask(span, fetchClass);
    await this.#wants.get(span)?.present();
  }

  /** Drops what is wanted as that and not on its way. */
  forget(fetchClass: Exclude<FetchClass, 'demand'>): void {
    for (const want of this.#wants.all()) {
      if (want.fetchClass !== fetchClass || want.state === 'flying') continue;
      this.#queue.delete(want.span);
      const message = `span ${want.span} of ${this.#o.source.name} is not wanted any more`;
      this.#wants.take(want.span)?.settled?.reject(new LayerError('ERR_LAYER_FETCH', message));
    }
    this.#pumpSoon();
  }

  /** Ends all transfers; readers still waiting get EIO. */
  async close(): Promise<void> {
    this.#closing.abort(new LayerError('ERR_LAYER_CLOSED', `${this.#o.source.name} was closed`));
    this.#endReturns();
    this.#failures.close();
    await Promise.allSettled(this.#running);
    for (const { span, isDemand } of this.#wants.all()) {
      if (isDemand) this.#o.sink.fail(span, 'EIO');
      this.#queue.delete(span);
      this.#wants.take(span)?.settled?.reject(this.#closing.signal.reason);
    }
  }

  #ask(span: number, fetchClass: FetchClass): void {
    const want = this.#wants.ask(span, fetchClass, this.#clock.now());
    if (want === undefined || want.state === 'flying') return;
    this.#enqueue(want);
  }

  #enqueue(want: Want): void {
    want.state = 'queued';
    this.#queue.add(want.span, want.fetchClass);
    this.#pumpSoon();
  }

  /** One turn later, so that misses that arrive together are merged. */
  #pumpSoon(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    this.#clock.soon(() => {
      this.#isPumping = false;
      this.#pump();
    });
  }

  #pump(): void {
    if (this.#closing.signal.aborted) return;
    // One that transfers may be stalled for long: what is in the queue now must not wait for it.
    while (this.#count.demand < maxRequests && this.#seeking < this.#queue.size('demand')) {
      this.#run('demand', () => this.#serveReaders());
    }
    for (const fetchClass of fetchClasses) {
      if (fetchClass === 'demand') continue;
      const seeker = this.#seekers.get(fetchClass);
      if (this.#queue.size(fetchClass) === 0) seeker?.abort(new Error('nothing is wanted any more'));
      else if (seeker === undefined && this.#count.other < maxRequests) {
        this.#run('other', () => this.#serveOthers(fetchClass));
      }
    }
  }

  /** `work` never rejects. */
  #run(kind: 'demand' | 'other', work: () => Promise<void>): void {
    this.#count[kind] += 1;
    const running = work().finally(() => {
      this.#running.delete(running);
      this.#count[kind] -= 1;
      this.#pumpSoon();
    });
    this.#running.add(running);
  }

  /** Takes runs from the queue of the readers while there are any. */
  async #serveReaders(): Promise<void> {
    while (this.#queue.size('demand') > 0 && !this.#closing.signal.aborted) {
      const ticket = this.#link.demand();
      this.#seeking += 1;
      const permits = await this.#permits('demand', this.#closing.signal).catch(() => undefined);
      this.#seeking -= 1;
      await this.#serve('demand', permits, ticket);
    }
  }

  /** Makes one request. */
  async #serveOthers(fetchClass: FetchClass): Promise<void> {
    const seeker = new AbortController();
    this.#seekers.set(fetchClass, seeker);
    const onClosing = () => seeker.abort(this.#closing.signal.reason);
    this.#closing.signal.addEventListener('abort', onClosing, { once: true });
    let ticket: LinkTicket | undefined;
    let permits: Permits | undefined;
    try {
      const seed = this.#o.spans.span(this.#queue.oldest(fetchClass) ?? 0);
      const least = seed.blobEnd - seed.blobStart;
      ticket = await this.#link.admit(fetchClass, { signal: seeker.signal, least });
      permits = await this.#permits(ticket.isOverdue ? 'demand' : fetchClass, seeker.signal);
    } catch {
      // Nothing of the class is wanted any more, or the fetcher is closed.
    } finally {
      this.#closing.signal.removeEventListener('abort', onClosing);
      this.#seekers.delete(fetchClass);
    }
    if (ticket !== undefined) await this.#serve(fetchClass, permits, ticket);
  }

  #permits(fetchClass: FetchClass, signal: AbortSignal): Promise<Permits> {
    const { slots } = this.#o;
    if (fetchClass === 'demand') return acquireAll(slots, { signal });
    return acquireInTime(slots, { signal, priority: urgency(fetchClass), clock: this.#clock, patienceMs });
  }

  /** Makes a request for what a class wants, if it still wants anything. Never rejects. */
  async #serve(fetchClass: FetchClass, permits: Permits | undefined, ticket: LinkTicket): Promise<void> {
    try {
      const run = permits === undefined ? [] : this.#takeRun(fetchClass);
      // The next one of the class looks for a place now.
      if (fetchClass !== 'demand') this.#pumpSoon();
      if (permits !== undefined && run.length > 0) await this.#fetch(run, permits, ticket);
    } finally {
      ticket.cancel();
      permits?.release();
    }
  }

  /** Ascending. */
  #takeRun(fetchClass: FetchClass): Want[] {
    const { sink } = this.#o;
    // Those that wait for their windows first hold up no others.
    const kind = (span: number) => this.#wants.get(span)?.lacksWindow === true;
    const isFree = (span: number) => !this.#wants.has(span) && !sink.isPresent(span);
    const limits = this.#o.limits ?? this.#limits(fetchClass);
    const { queued, free } = this.#queue.take(fetchClass, { limits, kind, isFree });
    const now = this.#clock.now();
    const wanted = queued.filter((span) => !this.#arrived(span)).flatMap((span) => this.#wants.get(span) ?? []);
    if (wanted.length === 0) return [];
    const extra = free.map((span) => this.#wants.addExtra(span, fetchClass, now));
    const run = [...wanted, ...extra].toSorted((a, b) => a.span - b.span);
    for (const want of run) want.state = 'flying';
    return run;
  }

  #limits(fetchClass: FetchClass): RunLimits {
    const limits = this.#link.runLimits(fetchClass);
    if (isMemoryShort()) return { ...limits, maxBytes: Math.min(limits.maxBytes, shortRunBytes) };
    const seed = this.#queue.oldest(fetchClass);
    // Who brings a whole layer wants much, and waits for no single span.
    const isBrought = seed !== undefined && this.#wants.get(seed)?.settled !== undefined;
    return isBrought ? { ...limits, maxBytes: maxRunBytes } : limits;
  }

  /** Whether somebody else brought the span, so that nothing has to be done for it any more. */
  #arrived(span: number): boolean {
    if (!this.#o.sink.isPresent(span)) return false;
    this.#wants.take(span)?.settled?.resolve();
    return true;
  }

  async #fetch(run: readonly Want[], permits: Permits, ticket: LinkTicket): Promise<void> {
    const miss = randomUUID().slice(0, 8);
    const started = this.#clock.now();
    const trouble = this.#failures.during(miss);
    const landed: TransferEvents['landed'] = (want, facts) => this.#landed(want, facts);
    const refused = (error: unknown) => this.#o.onRefused?.(error);
    const transfer = new SpanTransfer(this.#parts, run, { landed, refused, ...trouble.events });
    const { left, failure, bytes } = await transfer.run(permits, ticket);
    const { layer, source, log } = this.#o;
    const ms = Math.round(this.#clock.now() - started);
    log.debug({ miss, layer, spans: run.length - left.length, bytes, ms, source: source.name }, 'spans fetched');
    trouble.end(left, failure);
  }

  #landed(want: Want, { bytes, sentAt }: Parameters<TransferEvents['landed']>[1]): void {
    const { span, askedFor, askedAt, retries } = want;
    this.#wants.take(span);
    const source = this.#o.source.name;
    const landedAt = this.#clock.now();
    this.#o.onFetched({ span, fetchClass: askedFor, bytes, askedAt, sentAt, landedAt, retries, source });
    want.settled?.resolve();
    // It may be lost again by now, and a reader who asked for it before this was heard of was told that it is on its way.
    if (!this.#o.sink.isPresent(span) && this.#o.sink.isAwaited(span)) this.#ask(span, 'demand');
  }
}
