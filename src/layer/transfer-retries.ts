import { backoffDelay, defaultBackoff, systemTimer } from '../util/backoff.ts';
import type { BackoffTimer } from '../util/backoff.ts';
import { LayerError, errorMessage } from './errors.ts';
import { isFinalFetchError, retryAfterMs } from './fetch-errors.ts';

export interface TransferRetriesOptions {
  /** Failures in a row, without a byte between them, after which it is given up. */
  readonly attempts?: number | undefined;
  readonly timer?: BackoffTimer | undefined;
}

/** A registry that wants to be left alone for longer is given up. */
const longestRetryAfterMs = 60_000;

/** Whether, and after which pause, a transfer that broke is begun again where it broke. */
export class TransferRetries {
  readonly #name: string;
  readonly #attempts: number;
  readonly #timer: BackoffTimer;
  #failures = 0;

  /** `name`: what is transferred, for messages. */
  constructor(name: string, { attempts = 6, timer = systemTimer }: TransferRetriesOptions = {}) {
    this.#name = name;
    this.#attempts = attempts;
    this.#timer = timer;
  }

  /** Bytes came: the next failure is the first one in a row. */
  progressed(): void {
    this.#failures = 0;
  }

  /** Returns when the transfer may be begun again. Errors: `cause` when it is a LayerError, otherwise ERR_LAYER_FETCH, when it may not; the signal's reason. */
  async failed(cause: unknown, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    this.#failures += 1;
    const asked = retryAfterMs(cause);
    const isLast = this.#failures >= this.#attempts || asked > longestRetryAfterMs;
    if (isLast || isFinalFetchError(cause, this.#failures)) {
      if (cause instanceof LayerError) throw cause;
      throw new LayerError('ERR_LAYER_FETCH', `cannot download ${this.#name}: ${errorMessage(cause)}`, { cause });
    }
    const pause = backoffDelay(defaultBackoff, this.#failures, this.#timer.random());
    await this.#timer.sleep(Math.max(asked, pause), signal);
  }
}
