// What is done with less while memory is short, and how that shows in an error.
import { memoryShortageMs } from '../native/memory-shortage.ts';
import { errorCode } from './errors.ts';

/** ms after memory was refused in which only what somebody waits for is brought, and little at a time. */
const restMs = 10_000;

const codes: ReadonlySet<unknown> = new Set(['ENOMEM', 'ENOBUFS', 'ERR_MEMORY_ALLOCATION_FAILED']);
/** Errors that refer to their causes in a ring are not ours, but cost nothing. */
const deepest = 8;

/** Whether it was for want of memory that something failed. */
export function isMemoryError(error: unknown): boolean {
  let at = error;
  for (let depth = 0; depth < deepest && at instanceof Error; depth += 1) {
    if (codes.has(errorCode(at))) return true;
    // V8 has no code for it.
    if (at instanceof RangeError && /allocation failed/i.test(at.message)) return true;
    at = at.cause;
  }
  return false;
}

/** Whether memory was refused a moment ago, to anybody in this process. */
export function isMemoryShort(): boolean {
  const ms = memoryShortageMs();
  return ms !== undefined && ms < restMs;
}
