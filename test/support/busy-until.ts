import { existsSync } from 'node:fs';

/** What one wait is woken by: nothing, so that it always takes its time. */
const never = new Int32Array(new SharedArrayBuffer(4));

/**
 * Keeps this thread's JavaScript busy, without a single turn of the event loop, until another process has made the file.
 * Throws when that takes longer than `limit` ms: whoever should have made it waits for the event loop.
 */
export function busyUntil(file: string, limit = 30_000): void {
  const end = performance.now() + limit;
  while (!existsSync(file)) {
    if (performance.now() > end) throw new Error(`${file} was not made while JavaScript was busy`);
    // Leaves the processor to that process.
    Atomics.wait(never, 0, 0, 2);
  }
}
