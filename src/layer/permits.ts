import type { Clock } from '../util/clock.ts';
import { Semaphore } from '../util/semaphore.ts';
import type { Permit } from '../util/semaphore.ts';

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

/**
 * One permit of each, all at the same moment: while one cannot be had none is held, so that nobody more urgent waits for one that is not used.
 * Errors: the signal's reason.
 */
async function acquireTogether(slots: readonly Semaphore[], { signal, priority }: AcquireAllOptions): Promise<Permits> {
  /** The one that could not be had, and is here now. */
  let first: { readonly slot: Semaphore; readonly permit: Permit } | undefined;
  for (;;) {
    const held: Permit[] = first === undefined ? [] : [first.permit];
    const missing = slots.find((slot) => {
      if (slot === first?.slot) return false;
      const permit = slot.tryAcquire(1, { priority });
      if (permit !== undefined) held.push(permit);
      return permit === undefined;
    });
    const release = () => {
      for (const permit of held.splice(0).reverse()) permit();
    };
    if (missing === undefined) return { release };
    release();
    first = { slot: missing, permit: await missing.acquire(1, { signal, priority }) };
  }
}

/** As `acquireAll`, all at the same moment, and as urgent as can be when that takes longer than `patienceMs`. */
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
    return await acquireTogether(slots, { signal: patience.signal, priority });
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
