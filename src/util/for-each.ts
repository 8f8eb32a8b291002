import { setMaxListeners } from 'node:events';
import { Semaphore } from './semaphore.ts';

/**
 * Runs `work` for every item, in order, at most `limit` at once. The first failure aborts the signal of the others. All of them have ended
 * when it returns. Errors: the first failure; the signal's reason.
 */
export async function forEach<T>(
  items: readonly T[],
  limit: number,
  work: (item: T, signal: AbortSignal) => Promise<void>,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<void> {
  const slots = new Semaphore(limit);
  const failure = new AbortController();
  const signal = options.signal === undefined ? failure.signal : AbortSignal.any([options.signal, failure.signal]);
  setMaxListeners(0, signal);
  const run = async (item: T) => {
    try {
      await slots.run(() => work(item, signal), { signal });
    } catch (error) {
      failure.abort(error);
    }
  };
  await Promise.all(items.map(run));
  if (failure.signal.aborted) throw failure.signal.reason;
}
