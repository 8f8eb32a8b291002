import type { Semaphore } from '../util/semaphore.ts';

/** One permit of each, taken in order; `release` gives all back and does nothing the second time. Errors: the signal's reason. */
export async function acquireAll(
  slots: readonly Semaphore[],
  signal: AbortSignal | undefined,
): Promise<{ release(): void }> {
  const held: (() => void)[] = [];
  const release = () => {
    for (const permit of held.splice(0).reverse()) permit();
  };
  try {
    for (const each of slots) held.push(await each.acquire(1, { signal }));
    return { release };
  } catch (error) {
    release();
    throw error;
  }
}
