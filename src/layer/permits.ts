import type { Clock } from '../util/clock.ts';
import { Semaphore } from '../util/semaphore.ts';

/** Requests at once, of which the last ones are for those that somebody waits for. */
export function fetchSlots(capacity: number): Semaphore {
  return new Semaphore(capacity, { reserve: Math.min(2, Math.ceil(capacity / 4)) });
}

export interface AcquireAllOptions {
  readonly signal?: AbortSignal | undefined;
  /** See `Semaphore`. */
  readonly priority?: number | undefined;
}

/** One permit of each. `release` gives all back and does nothing the second time. */
export interface Permits {
  release(): void;
}

/** Taken in order. Errors: the signal's reason. */
export async function acquireAll(
  slots: readonly Semaphore[],
  { signal, priority }: AcquireAllOptions = {},
): Promise<Permits> {
  const held: (() => void)[] = [];
  const release = () => {
    for (const permit of held.splice(0).reverse()) permit();
  };
  try {
    for (const each of slots) held.push(await each.acquire(1, { signal, priority }));
    return { release };
  } catch (error) {
    release();
    throw error;
  }
}

/** As `acquireAll`, and as urgent as can be when that takes longer than `patienceMs`. */
export async function acquireInTime(
  slots: readonly Semaphore[],
  { signal, priority, clock, patienceMs }: Required<AcquireAllOptions> & PatienceOptions,
): Promise<Permits> {
  signal?.throwIfAborted();
  const patience = new AbortController();
  const onAbort = () => patience.abort(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  const cancel = clock.after(patienceMs, () => patience.abort(new Error('it takes too long')));
  try {
    return await acquireAll(slots, { signal: patience.signal, priority });
  } catch (error) {
    if (!patience.signal.aborted) throw error;
    return await acquireAll(slots, { signal, priority: 0 });
  } finally {
    cancel();
    signal?.removeEventListener('abort', onAbort);
  }
}

interface PatienceOptions {
  readonly clock: Clock;
  readonly patienceMs: number;
}
