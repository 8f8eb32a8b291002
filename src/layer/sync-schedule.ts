import type { Logger } from '../observe/log.ts';
import { errorMessage } from './errors.ts';

export interface SyncScheduleOptions {
  /** Spans that are worth it; default 64. */
  readonly every?: number | undefined;
  /** And from the first of them on so long, as every time costs several flushes of the disk, which whoever reads waits for as well; default 5 s. */
  readonly atLeastMs?: number | undefined;
  /** With fewer spans: when none came for so long; default 2 s. */
  readonly idleMs?: number | undefined;
  /** ms since some moment; default `performance.now`. */
  readonly now?: (() => number) | undefined;
}

/** Makes the bitmap durable now and then while many spans come, and when a burst of them has ended. What a power cut takes is fetched again. */
export class SyncSchedule {
  readonly #sync: () => Promise<void>;
  readonly #log: Logger;
  readonly #every: number;
  readonly #atLeastMs: number;
  readonly #idleMs: number;
  readonly #now: () => number;
  #dirty = 0;
  #dirtySince = 0;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(sync: () => Promise<void>, log: Logger, options: SyncScheduleOptions = {}) {
    this.#sync = sync;
    this.#log = log;
    this.#every = options.every ?? 64;
    this.#atLeastMs = options.atLeastMs ?? 5_000;
    this.#idleMs = options.idleMs ?? 2_000;
    this.#now = options.now ?? (() => performance.now());
  }

  spanLanded(): void {
    const now = this.#now();
    if (this.#dirty === 0) this.#dirtySince = now;
    this.#dirty += 1;
    if (this.#dirty >= this.#every && now - this.#dirtySince >= this.#atLeastMs) {
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
