import type { Logger } from '../observe/log.ts';
import { errorMessage } from './errors.ts';

/** Makes the bitmap durable after every so many spans, and when a burst of reads has ended. */
export class SyncSchedule {
  readonly #sync: () => Promise<void>;
  readonly #log: Logger;
  readonly #every: number;
  readonly #idleMs: number;
  #dirty = 0;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(sync: () => Promise<void>, log: Logger, options: { every?: number; idleMs?: number } = {}) {
    this.#sync = sync;
    this.#log = log;
    this.#every = options.every ?? 64;
    this.#idleMs = options.idleMs ?? 2_000;
  }

  spanLanded(): void {
    this.#dirty += 1;
    if (this.#dirty >= this.#every) {
      this.#flush();
      return;
    }
    if (this.#timer !== undefined) this.#timer.refresh();
    // Must not keep a command alive that has its answer: closing the layer syncs as well.
    else this.#timer = setTimeout(() => this.#flush(), this.#idleMs).unref();
  }

  /** Syncs what is left and stops. */
  async close(): Promise<void> {
    if (this.#dirty > 0) this.#flush();
    clearTimeout(this.#timer);
    await this.#running;
  }

  #flush(): void {
    this.#dirty = 0;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#running = this.#running.then(async () => {
      try {
        await this.#sync();
      } catch (error) {
        this.#log.warn({ error: errorMessage(error) }, 'cannot make the block cache durable');
      }
    });
  }
}
