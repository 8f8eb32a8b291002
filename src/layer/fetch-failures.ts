// Spans of one layer that did not come: they are asked for again after a pause, or given up, and then whoever waits for them is told.
import { noteMemoryShortage } from '../native/memory-shortage.ts';
import type { Logger } from '../observe/log.ts';
import type { Clock } from '../util/clock.ts';
import type { BlobSource } from './blob-source.ts';
import { LayerError, errorCode, errorMessage } from './errors.ts';
import { isSpanContentError, isWindowContentError } from './fetch-errors.ts';
import { decodeErrno, failureMessage, isRefusedByDisk, pauseAfter, sortFailed } from './fetch-trouble.ts';
import { isMemoryError } from './memory-shortage.ts';
import type { SpanSink, TransferEvents } from './span-transfer.ts';
import type { SpanWants, Want } from './span-wants.ts';

export interface FetchFailuresOptions {
  readonly sink: Pick<SpanSink, 'fail'>;
  readonly source: Pick<BlobSource, 'name'>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly wants: SpanWants;
  /** Aborts when the layer is closed: nothing is asked for again then. */
  readonly closing: AbortSignal;
  /** Whether somebody else brought the span, so that nothing has to be done for it any more. */
  readonly arrived: (span: number) => boolean;
  /** It is to be asked for now. */
  readonly enqueue: (want: Want) => void;
  /** Called once per span that was given up because the bytes themselves are wrong. */
  readonly onSuspect: (why: string) => void;
  /** The disk does not take spans. */
  readonly onRefused?: ((error: unknown) => void) | undefined;
}

/** Once the registry is back, those that wait for it come within so long, each at its own moment. ms. */
const returnMs = 250;

interface Pause {
  readonly cancel: () => void;
  readonly end: () => void;
}

/** Of one request, on every line about it. */
type Miss = string;

export interface RequestFailures {
  readonly events: Pick<TransferEvents, 'decodeFailed' | 'windowFailed'>;
  /** The request is over: `left` did not come, because of `failure`. */
  end(left: readonly Want[], failure: unknown): void;
}

export class FetchFailures {
  readonly #o: FetchFailuresOptions;
  readonly #pauses = new Set<Pause>();
  #last: string | undefined;

  constructor(options: FetchFailuresOptions) {
    this.#o = options;
  }

  /** Why reads failed last, for the message of the next error. */
  get last(): string | undefined {
    return this.#last;
  }

  /** Ends all pauses; what rests is the caller's to give up. */
  close(): void {
    for (const { cancel } of this.#pauses) cancel();
    this.#pauses.clear();
  }

  /** The registry is back: what rests is asked for again soon. */
  returned(): void {
    const { clock } = this.#o;
    const pauses = Array.from(this.#pauses);
    this.close();
    for (const pause of pauses) {
      this.#pause(clock.random() * returnMs, pause.end);
    }
  }

  /** For one request. */
  during(miss: Miss): RequestFailures {
    /** What came without its window, and why; asked for again together. */
    const windowless = new Map<Want, unknown>();
    return {
      events: {
        decodeFailed: (want, error) => this.#decodeFailed(want, error, miss),
        windowFailed: (want, error) => {
          if (!this.#isWindowWrong(want, error, miss)) windowless.set(want, error);
        },
      },
      end: (left, failure) => {
        if (isMemoryError(failure)) noteMemoryShortage();
        if (failure !== undefined && left.length > 0) this.#retryOrFail(left, failure, miss);
        if (windowless.size > 0) this.#retryWindowless(windowless, miss);
      },
    };
  }

  /** `told`: to who waits for the spans other than through the sink. */
  #retryOrFail(failed: readonly Want[], error: unknown, miss: Miss, told: unknown = error): void {
    const { closing, clock, source, log } = this.#o;
    if (closing.aborted) return;
    const now = clock.now();
    const { again, over } = sortFailed(
      failed.filter(({ span }) => !this.#o.arrived(span)),
      error,
      now,
    );
    if (over.length > 0) this.#fail(over, 'EIO', error, miss, told);
    if (errorCode(error) === 'ERR_LAYER_SHORT') this.#o.onSuspect(errorMessage(error));
    if (again.length === 0) return;
    const pause = pauseAfter(again, error, clock.random());
    const fields = { miss, blob: source.name, spans: again.length, pause, error: errorMessage(error) };
    log.debug(fields, 'fetch failed, trying again');
    // A read must end at its deadline even when the pause would last longer.
    const latest = Math.min(...again.map(({ deadline }) => deadline)) - now;
    for (const want of again) want.state = 'resting';
    this.#pause(Math.min(pause, latest), () => {
      // Some may have become urgent meanwhile, and some forgotten.
      const resting = again.filter((want) => want.state === 'resting' && this.#o.wants.get(want.span) === want);
      const isOver = resting.some(({ deadline }) => deadline - clock.now() < 1);
      if (isOver) this.#retryOrFail(resting, error, miss, told);
      else for (const want of resting) this.#o.enqueue(want);
    });
  }

  #pause(ms: number, end: () => void): void {
    const pause: Pause = {
      end,
      cancel: this.#o.clock.after(ms, () => {
        this.#pauses.delete(pause);
        end();
      }),
    };
    this.#pauses.add(pause);
  }

  /** `windowless`: what came without its window, and why; asked for again together. */
  #retryWindowless(windowless: ReadonlyMap<Want, unknown>, miss: Miss): void {
    const [error] = windowless.values();
    for (const want of windowless.keys()) want.lacksWindow = true;
    // Without the index the layer may be readable.
    const message = `the windows of ${this.#o.source.name} cannot be had: ${errorMessage(error)}`;
    const told = new LayerError('ERR_LAYER_INDEX', message, { cause: error });
    this.#retryOrFail([...windowless.keys()], error, miss, told);
  }

  /** True, and the span is given up, when what brings windows got a wrong one twice. */
  #isWindowWrong(want: Want, error: unknown, miss: Miss): boolean {
    const { source } = this.#o;
    if (!isWindowContentError(error)) return false;
    this.#fail([want], 'EIO', error, miss);
    this.#o.onSuspect(
      `the window of span ${want.span} of ${source.name} is not as its index says: ${errorMessage(error)}`,
    );
    return true;
  }

  #decodeFailed(want: Want, error: unknown, miss: Miss): void {
    const { source, log } = this.#o;
    const { span } = want;
    if (isMemoryError(error)) {
      // The bytes are right, and there may be room to decode them a moment later.
      noteMemoryShortage();
      this.#retryOrFail([want], error, miss);
      return;
    }
    const isRefused = isRefusedByDisk(error);
    if (isRefused) this.#o.onRefused?.(error);
    // Whoever began to wait while it was being decoded is served without the disk the next time.
    if (isRefused && want.isDemand && want.settled === undefined && (want.refused += 1) === 1) {
      this.#o.enqueue(want);
      return;
    }
    const errno = decodeErrno(want, error);
    if (errno === undefined) {
      const fields = { miss, span, blob: source.name, error: errorMessage(error) };
      log.warn(fields, 'span is damaged, fetching it again');
      // Whether it is the registry's fault is worth a request, but none that others wait behind.
      if (want.isExtra) want.fetchClass = 'background';
      want.isExtra = false;
      this.#o.enqueue(want);
      return;
    }
    this.#fail([want], errno, error, miss);
    if (isSpanContentError(error)) {
      this.#o.onSuspect(`span ${span} of ${source.name} does not match its index: ${errorMessage(error)}`);
    }
  }

  /** Gives up. Where nobody waits, nobody is told. */
  #fail(wants: readonly Want[], errno: string, error: unknown, miss: Miss, told: unknown = error): void {
    const { source, sink, log } = this.#o;
    const why = failureMessage(error, wants[0]);
    const fields = { miss, blob: source.name, errno, error: why };
    const read = wants.filter((want) => want.isDemand).map(({ span }) => span);
    if (read.length > 0) {
      this.#last = why;
      log.error({ ...fields, spans: read.slice(0, 16), count: read.length }, 'reads fail');
    }
    if (read.length < wants.length) log.debug({ ...fields, count: wants.length - read.length }, 'spans are given up');
    for (const want of wants) {
      const { isDemand } = want;
      this.#o.wants.take(want.span);
      if (isDemand) sink.fail(want.span, errno);
      want.settled?.reject(told);
    }
  }
}
