// One request: its body is cut into spans as it arrives, and each is decoded at once while the rest still streams.
import { setMaxListeners } from 'node:events';
import type { Span, SpanTable } from '../index/layer-index.ts';
import type { DecodeRequest } from '../native/layer-cache.ts';
import type { Clock } from '../util/clock.ts';
import type { Semaphore } from '../util/semaphore.ts';
import { untilAborted } from '../util/until-aborted.ts';
import { Watchdog } from '../util/watchdog.ts';
import type { BlobSource } from './blob-source.ts';
import { LayerError } from './errors.ts';
import { urgency } from './fetch-class.ts';
import type { LinkTicket, LinkTransfer } from './link.ts';
import type { Permits } from './permits.ts';
import { receiveRun } from './receive-run.ts';
import type { Want } from './span-wants.ts';

/** The part of the block cache that the fetcher fills. */
export interface SpanSink {
  decode(request: DecodeRequest): Promise<number>;
  fail(span: number, errnoName: string): void;
  /** True also wakes the reads that wait for the span: another process may have brought it. */
  isPresent(span: number): boolean;
}

/** No answer came in time; what went wrong before says more. */
export class OutOfTime extends Error {}

export interface TransferParts {
  readonly spans: SpanTable;
  readonly sink: SpanSink;
  readonly source: BlobSource;
  readonly clock: Clock;
  /** Bytes of blob that may be in memory to be decoded. */
  readonly decodeBytes: Semaphore;
  readonly readDeadlineMs: number;
  /** Aborts when the layer is closed. */
  readonly closing: AbortSignal;
}

export interface TransferEvents {
  /** `sentAt`: of the request. */
  readonly landed: (want: Want, facts: { readonly bytes: number; readonly sentAt: number }) => void;
  readonly decodeFailed: (want: Want, error: unknown) => void;
  /** Its window did not come with it. */
  readonly windowFailed: (want: Want, error: unknown) => void;
}

export interface TransferResult {
  /** Spans that did not come. */
  readonly left: readonly Want[];
  /** Why. */
  readonly failure: unknown;
  /** Bytes of blob of those that came. */
  readonly bytes: number;
}

/** A request that has brought nothing for so long gives its permits back: it waits, it does not use the network. */
const idleMs = 1_000;

export class SpanTransfer {
  readonly #p: TransferParts;
  readonly #events: TransferEvents;
  readonly #left: Map<number, Want>;
  readonly #ending = new AbortController();
  readonly #decoding = new Set<Promise<void>>();
  /** Memory of spans that are not decoded yet. */
  readonly #memory = new Set<() => void>();
  #deadline = Infinity;
  #cancelDeadline: (() => void) | undefined;
  #sentAt = 0;
  #bytes = 0;

  /** `run`: ascending. */
  constructor(parts: TransferParts, run: readonly Want[], events: TransferEvents) {
    this.#p = parts;
    this.#events = events;
    this.#left = new Map(run.map((want) => [want.span, want]));
    // Every span that waits for its window listens.
    setMaxListeners(0, this.#ending.signal);
  }

  /** Never rejects. Gives permits and ticket back. */
  async run(permits: Permits, ticket: LinkTicket): Promise<TransferResult> {
    const { clock, closing, spans, source, readDeadlineMs } = this.#p;
    const run = [...this.#left.values()];
    const { signal } = this.#ending;
    this.#sentAt = clock.now();
    for (const want of run) {
      want.onDeadline = (deadline) => this.#dueBy(deadline);
      this.#dueBy(want.deadline);
    }
    let transfer: LinkTransfer | undefined;
    const idle = new Watchdog(clock, idleMs, () => {
      permits.release();
      ticket.cancel();
      transfer?.idle();
      this.#releaseMemory();
    });
    const stallMs = readDeadlineMs / 3;
    const stall = new Watchdog(clock, stallMs, () =>
      this.#ending.abort(new OutOfTime(`no bytes for ${Math.round(stallMs / 1000)} s`)),
    );
    // A signal made of both would be remembered by the one that lives as long as the layer.
    const onClosing = () => this.#ending.abort(closing.reason);
    closing.addEventListener('abort', onClosing, { once: true });
    // It may have been closed between the permits and this.
    if (closing.aborted) onClosing();
    let failure: unknown;
    try {
      // Their requests are on their way before the one for the spans.
      spans.prepareWindows(run.map(({ span }) => span));
      await this.#waitForWindows(run);
      const ranges = [...this.#left.keys()].map((span) => spans.span(span));
      if (ranges.length > 0) {
        transfer = ticket.begin((ranges.at(-1)?.blobEnd ?? 0) - (ranges[0]?.blobStart ?? 0));
        const arrived = (bytes: number) => {
          idle.heard();
          stall.heard();
          transfer?.received(bytes);
        };
        const take = (span: Span, data: Uint8Array) => this.#take(span, data);
        await receiveRun({ source, blobSize: spans.blobSize }, ranges, { signal, arrived, take });
      }
    } catch (error) {
      failure = signal.aborted ? signal.reason : error;
    } finally {
      ticket.cancel();
      transfer?.end();
      stall.stop();
      // A span that is here may still wait for its window.
      await Promise.all(this.#decoding);
      idle.stop();
      this.#cancelDeadline?.();
      closing.removeEventListener('abort', onClosing);
      for (const want of run) want.onDeadline = undefined;
    }
    return { left: [...this.#left.values()], failure, bytes: this.#bytes };
  }

  #dueBy(deadline: number): void {
    if (deadline >= this.#deadline) return;
    this.#deadline = deadline;
    this.#cancelDeadline?.();
    const { clock, readDeadlineMs } = this.#p;
    this.#cancelDeadline = clock.after(Math.max(0, deadline - clock.now()), () =>
      this.#ending.abort(new OutOfTime(`no answer within the read deadline of ${readDeadlineMs / 1000} s`)),
    );
  }

  /** The bytes of some came in vain before and would again: those come only once their windows are here. Never rejects. */
  async #waitForWindows(run: readonly Want[]): Promise<void> {
    const { signal } = this.#ending;
    const lacking = run.filter((want) => want.lacksWindow);
    const coming = lacking.map(async (want) => {
      try {
        await untilAborted(this.#p.spans.window(want.span, { signal }), signal);
      } catch (error) {
        this.#left.delete(want.span);
        this.#events.windowFailed(want, signal.aborted ? signal.reason : error);
      }
    });
    await Promise.all(coming);
  }

  /** Resolves when more may come: what waits to be decoded must fit into memory. Errors: the signal's reason. */
  async #take(span: Span, data: Uint8Array): Promise<void> {
    const want = this.#left.get(span.index);
    if (want === undefined) return;
    const { signal } = this.#ending;
    const priority = want.isExtra ? urgency('background') : urgency(want.fetchClass);
    const permit = await this.#p.decodeBytes.acquire(data.length, { signal, priority });
    this.#memory.add(permit);
    this.#left.delete(span.index);
    this.#bytes += data.length;
    const work = this.#decode(want, span, data).finally(() => {
      permit();
      this.#memory.delete(permit);
      this.#decoding.delete(work);
    });
    this.#decoding.add(work);
  }

  /** Never rejects. */
  async #decode(want: Want, span: Span, data: Uint8Array): Promise<void> {
    const { spans, sink } = this.#p;
    const { signal } = this.#ending;
    const { index, decoder, bits, sha256 } = span;
    let window: Uint8Array | undefined;
    try {
      if (decoder === 'gzip-checkpoint') window = await untilAborted(spans.window(index, { signal }), signal);
    } catch (error) {
      this.#events.windowFailed(want, signal.aborted ? signal.reason : error);
      return;
    }
    try {
      if (decoder === 'sequential') {
        throw new LayerError('ERR_LAYER_UNSUPPORTED', `spans of kind ${decoder} cannot be fetched on their own`);
      }
      const openEnded = spans.openEnded && index === spans.count - 1;
      await sink.decode({ span: index, decoder, bits, data, window, sha256, openEnded });
    } catch (error) {
      this.#events.decodeFailed(want, error);
      return;
    }
    this.#events.landed(want, { bytes: data.length, sentAt: this.#sentAt });
  }

  #releaseMemory(): void {
    for (const permit of this.#memory) permit();
    this.#memory.clear();
  }
}
