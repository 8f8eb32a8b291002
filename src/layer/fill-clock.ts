import { setTimeout as delay } from 'node:timers/promises';

/** What filling knows of time; replaced in tests. */
export interface FillClock {
  /** Monotonic, ms. */
  now(): number;
  /** Minutes after midnight, local time. */
  minute(): number;
  /** Errors: the signal's reason. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

export const systemFillClock: FillClock = {
  now: () => performance.now(),
  minute: () => {
    const time = new Date();
    return 60 * time.getHours() + time.getMinutes();
  },
  sleep: async (ms, signal) => {
    try {
      await delay(ms, undefined, { signal, ref: false });
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    }
  },
};

/** Resolves after `ms` or with `earlier`. Errors: the signal's reason; those of `earlier`. */
export async function sleepOr(
  clock: FillClock,
  ms: number,
  earlier: Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const sleeping = new AbortController();
  const end = () => sleeping.abort();
  signal.addEventListener('abort', end, { once: true });
  try {
    await Promise.race([clock.sleep(ms, sleeping.signal).catch(() => {}), earlier]);
  } finally {
    signal.removeEventListener('abort', end);
    sleeping.abort();
  }
  signal.throwIfAborted();
}
