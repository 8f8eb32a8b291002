import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { errorMessage } from '../layer/errors.ts';
import type { Logger } from '../observe/log.ts';
import { Deferred } from '../util/deferred.ts';
import { Semaphore } from '../util/semaphore.ts';

const atOnce = 2;
/** ms that work waits at most for those who unpack. */
const patienceMs = 60_000;
/** ms after the last of them: whoever pulled the image has things to do then. */
const restMs = 200;

/** `now`: a little at a time. `quiet`: as well, and not while somebody waits for layers, who needs disk and processors. */
export type SettlingTime = 'now' | 'quiet';

/** Work behind the scenes. Nothing of it fails anybody. */
export class Settling {
  readonly #log: Logger;
  readonly #isBusy: () => boolean;
  readonly #slots = new Semaphore(atOnce);
  readonly #ending = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #quiet = new Deferred<void>();
  #waited = 0;

  /** `isBusy`: whether layers are being unpacked. */
  constructor(log: Logger, isBusy: () => boolean) {
    this.#log = log;
    this.#isBusy = isBusy;
    setMaxListeners(0, this.#ending.signal);
  }

  /** `layer` is for the log. */
  add(layer: string, time: SettlingTime, work: (signal: AbortSignal) => Promise<void>): void {
    const { signal } = this.#ending;
    const running = this.#inTime(time, signal)
      .then(() => this.#slots.run(() => work(signal), { signal }))
      .catch((error: unknown) => {
        if (!signal.aborted)
          this.#log.warn({ layer, error: errorMessage(error) }, 'what is to be done behind an unpacked layer failed');
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Nothing is being unpacked any more. */
  quiet(): void {
    this.#quiet.resolve();
    this.#quiet = new Deferred();
  }

  /** When all that was added is done; it waits for nobody meanwhile. */
  async idle(): Promise<void> {
    this.#waited += 1;
    this.quiet();
    try {
      while (this.#running.size > 0) await Promise.all(this.#running);
    } finally {
      this.#waited -= 1;
    }
  }

  /** What has not begun does not begin any more. Idempotent. */
  async close(): Promise<void> {
    this.#ending.abort(new DOMException('the unpacker is closed', 'AbortError'));
    await this.idle();
  }

  async #inTime(time: SettlingTime, signal: AbortSignal): Promise<void> {
    if (time === 'now') return;
    const latest = performance.now() + patienceMs;
    while (this.#waited === 0 && !signal.aborted) {
      const left = latest - performance.now();
      if (left <= 0) return;
      const changed = this.#quiet.promise;
      if (this.#isBusy()) await Promise.race([changed, pause(left, signal)]);
      else {
        const isRested = await Promise.race([changed.then(() => false), pause(restMs, signal).then(() => true)]);
        if (isRested && !this.#isBusy()) return;
      }
    }
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => {});
}
