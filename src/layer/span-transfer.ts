// One request: its body is cut into spans as it arrives, and each is decoded at once while the rest still streams.
import { setMaxListeners } from 'node:events';
import type { Span, SpanTable } from '../index/layer-index.ts';
import type { DecodeRun, DecodedRun } from '../native/layer-cache.ts';
import type { Clock } from '../util/clock.ts';
import type { Semaphore } from '../util/semaphore.ts';
import { untilAborted } from '../util/until-aborted.ts';
import type { BlobSource } from './blob-source.ts';
import { LayerError } from './errors.ts';
import { urgency } from './fetch-class.ts';
import type { LinkTicket, LinkTransfer } from './link.ts';
import { isMemoryShort } from './memory-shortage.ts';
import type { Permits } from './permits.ts';
import { receiveRun } from './receive-run.ts';
import { SignsOfLife } from './signs-of-life.ts';
import type { Want } from './span-wants.ts';

/** The part of the block cache that the fetcher fills. */
export interface SpanSink {
  decodeRun(run: DecodeRun): Promise<DecodedRun>;
  fail(span: number, errnoName: string): void;
  /** True also wakes the reads that wait for the span: another process may have brought it. */
  isPresent(span: number): boolean;
  /** Whether reads wait for it. */
  isAwaited(span: number): boolean;
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
  /** The disk does not take spans, whether or not they could be served without it. */
  readonly refused: (error: unknown) => void;
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

interface Piece {
  readonly want: Want;
  readonly span: Span;
}

/** Blob bytes from `start` on. */
interface RunData {
  readonly bytes: Uint8Array;
  readonly start: number;
  /** Nobody waits for any of it. */
  readonly inBackground: boolean;
}

type Tail = Promise<Uint8Array | undefined> | undefined;

/** `cause`: why the window of a span did not come. */
class WindowMissing extends Error {
  constructor(cause: unknown) {
    super('the window of a span is missing', { cause });
  }
}

/** Bytes of blob that are decoded in one go where nobody waits for a single span: each go costs the event loop as much. */
const goBytes = 512 * 1024;
/** Of a transfer: see `SignsOfLife`. */
const signOfLifeBytes = 16 * 1024;

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
  /** What was taken last, and what the stream is before the span behind it. */
  #previous: { readonly next: number; readonly tail: Tail } | undefined;

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
    const stallMs = readDeadlineMs / 3;
    const signs = new SignsOfLife({
      clock,
      leastBytes: signOfLifeBytes,
      stallMs,
      onStall: () => this.#ending.abort(new OutOfTime(`next to no bytes for ${Math.round(stallMs / 1000)} s`)),
      onIdle: () => {
        permits.release();
        ticket.cancel();
        transfer?.idle();
        this.#releaseMemory();
      },
    });
    // A signal made of both would be remembered by the one that lives as long as the layer.
    const onClosing = () => this.#ending.abort(closing.reason);
    closing.addEventListener('abort', onClosing, { once: true });
    // It may have been closed between the permits and this.
    if (closing.aborted) onClosing();
    let failure: unknown;
    try {
      // Their requests are on their way before the one for the spans.
      const firsts = run.map(({ span }) => span).filter((span, i, all) => span - 1 !== all[i - 1]);
      spans.prepareWindows(firsts.filter((span) => !this.#isAfterPresent(span)));
      await this.#waitForWindows(run);
      const ranges = [...this.#left.keys()].map((span) => spans.span(span));
      if (ranges.length > 0) {
        transfer = ticket.begin((ranges.at(-1)?.blobEnd ?? 0) - (ranges[0]?.blobStart ?? 0));
        const arrived = (bytes: number) => {
          signs.arrived(bytes);
          transfer?.received(bytes);
        };
        const take = (group: readonly Span[], data: Uint8Array) => this.#take(group, data);
        const isAwaited = run.some(({ isDemand }) => isDemand);
        const least = isAwaited ? 0 : goBytes;
        const whenAway = isAwaited ? 'tell' : 'yield';
        await receiveRun({ source, blobSize: spans.blobSize }, ranges, { signal, whenAway, arrived, take, least });
      }
    } catch (error) {
      failure = signal.aborted ? signal.reason : error;
    } finally {
      ticket.cancel();
      transfer?.end();
      signs.allCame();
      // A span that is here may still wait for its window.
      await Promise.all(this.#decoding);
      signs.stop();
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
  async #take(group: readonly Span[], data: Uint8Array): Promise<void> {
    const pieces = group.flatMap((span) => {
      const want = this.#left.get(span.index);
      return want === undefined ? [] : [{ want, span }];
    });
    const [first, last] = [pieces[0], pieces.at(-1)];
    if (first === undefined || last === undefined) return;
    const { signal } = this.#ending;
    const urgencies = pieces.map(({ want }) => urgency(want.isExtra ? 'background' : want.fetchClass));
    const priority = Math.min(...urgencies);
    const inBackground = priority === urgency('background');
    // Alone, where there is hardly memory for one.
    const weight = isMemoryShort() ? Infinity : data.length;
    const permit = await this.#p.decodeBytes.acquire(weight, { signal, priority });
    this.#memory.add(permit);
    for (const { span } of pieces) this.#left.delete(span.index);
    this.#bytes += data.length;
    const previous = this.#previous?.next === first.span.index ? this.#previous.tail : undefined;
    const tail = this.#decode(pieces, { bytes: data, start: group[0]?.blobStart ?? 0, inBackground }, previous);
    this.#previous = { next: last.span.index + 1, tail };
    const work = tail.then(() => {
      permit();
      this.#memory.delete(permit);
      this.#decoding.delete(work);
    });
    this.#decoding.add(work);
  }

  /** `tail`: the stream before the first one, where that is known. Resolves to that behind the last one. Never rejects. */
  async #decode(pieces: readonly Piece[], data: RunData, tail: Tail): Promise<Uint8Array | undefined> {
    let before = await tail;
    for (let at = 0; at < pieces.length; ) {
      const run = neighbours(pieces, at);
      const { present, error, refused, tail: behind } = await this.#decodeRun(run, data, before);
      if (refused !== undefined) this.#events.refused(refused);
      for (const { want, span } of run.slice(0, present)) {
        this.#events.landed(want, { bytes: span.blobEnd - span.blobStart, sentAt: this.#sentAt });
      }
      at += present;
      before = present === run.length ? behind : undefined;
      if (error === undefined) continue;
      const failed = pieces[at]?.want;
      at += 1;
      if (failed === undefined) continue;
      if (error instanceof WindowMissing) this.#events.windowFailed(failed, error.cause);
      else this.#events.decodeFailed(failed, error);
    }
    return before;
  }

  /** As of `SpanSink`. Never rejects. */
  async #decodeRun(run: readonly Piece[], data: RunData, before: Uint8Array | undefined): Promise<DecodedRun> {
    const { spans } = this.#p;
    const { signal } = this.#ending;
    const { index: first, decoder } = (run[0] as Piece).span;
    if (decoder !== 'gzip-checkpoint') return await this.#decodeWith(undefined, run, data);
    if (before !== undefined) return await this.#decodeWith(before, run, data);
    if (this.#isAfterPresent(first)) {
      const decoded = await this.#decodeWith('cached', run, data);
      // It went meanwhile, or is shorter than a window.
      if (decoded.error?.code !== 'ENODATA') return decoded;
    }
    let window: Uint8Array | undefined;
    try {
      window = await untilAborted(spans.window(first, { signal }), signal);
    } catch (error) {
      return { present: 0, error: new WindowMissing(signal.aborted ? signal.reason : error) };
    }
    return await this.#decodeWith(window, run, data);
  }

  /** Never rejects. */
  async #decodeWith(window: DecodeRun['window'], run: readonly Piece[], data: RunData): Promise<DecodedRun> {
    const { spans, sink } = this.#p;
    const { index: first, decoder, sha256 } = (run[0] as Piece).span;
    const bounds = run.flatMap(({ span }) => [span.blobStart - data.start, span.blobEnd - data.start]);
    try {
      if (decoder === 'sequential') {
        throw new LayerError('ERR_LAYER_UNSUPPORTED', `spans of kind ${decoder} cannot be fetched on their own`);
      }
      return await sink.decodeRun({
        first,
        decoder,
        bits: Uint8Array.from(run, ({ span }) => span.bits),
        bounds: Uint32Array.from(bounds),
        data: data.bytes,
        inBackground: data.inBackground,
        window,
        sha256: sha256 && Buffer.concat(run.map(({ span }) => span.sha256 ?? sha256)),
        openEnded: spans.openEnded && first + run.length === spans.count,
      });
    } catch (error) {
      return { present: 0, error: error as Error };
    }
  }

  /** What is before it is here, so that it most likely needs no window from elsewhere. */
  #isAfterPresent(span: number): boolean {
    return span > 0 && this.#p.sink.isPresent(span - 1);
  }

  #releaseMemory(): void {
    for (const permit of this.#memory) permit();
    this.#memory.clear();
  }
}

/** Those from `at` on that follow one another in the stream and are decoded alike. */
function neighbours(pieces: readonly Piece[], at: number): readonly Piece[] {
  const first = pieces[at]?.span;
  const end = pieces.findIndex(
    ({ span }, i) => i > at && (span.index !== (first?.index ?? 0) + i - at || span.decoder !== first?.decoder),
  );
  return pieces.slice(at, end === -1 ? pieces.length : end);
}
