import { setMaxListeners } from 'node:events';
import type { Logger } from '../observe/log.ts';
import { errorMessage } from '../layer/errors.ts';
import { Semaphore } from '../util/semaphore.ts';

const atOnce = 2;

/** Work behind the scenes: a little at a time, and nothing of it fails anybody. */
export class Settling {
  readonly #log: Logger;
  readonly #slots = new Semaphore(atOnce);
  readonly #ending = new AbortController();
  readonly #running = new Set<Promise<void>>();

  constructor(log: Logger) {
    this.#log = log;
    setMaxListeners(0, this.#ending.signal);
  }

  /** `layer` is for the log. */
  add(layer: string, work: (signal: AbortSignal) => Promise<void>): void {
    const { signal } = this.#ending;
    const running = this.#slots
      .run(() => work(signal), { signal })
      .catch((error: unknown) => {
        if (!signal.aborted)
          this.#log.warn({ layer, error: errorMessage(error) }, 'what is to be done behind an unpacked layer failed');
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** When all that was added is done. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  /** What has not begun does not begin any more. Idempotent. */
  async close(): Promise<void> {
    this.#ending.abort(new DOMException('the unpacker is closed', 'AbortError'));
    await this.idle();
  }
}
