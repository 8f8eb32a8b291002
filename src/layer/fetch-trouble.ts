// What becomes of a span that did not come: whether it is asked for again, after which pause, and who is told when it is not.
import { backoffDelay } from '../util/backoff.ts';
import { errorCode, errorMessage } from './errors.ts';
import { isFinalFetchError, isLeftAlone, isSpanContentError, retryAfterMs } from './fetch-errors.ts';
import { OutOfTime } from './span-transfer.ts';
import type { Want } from './span-wants.ts';

const backoff = { attempts: Infinity, baseMs: 100, maxMs: 5_000, maxRetryAfterMs: 15 * 60_000 };
/** Requests for a span that nobody waits for; after that it is dropped: who wants it still asks again. */
const idleAttempts = 4;

/** A request for these ended in vain: which of them are asked for again. Counts the attempt, if there was one. */
export function sortFailed(
  wants: readonly Want[],
  error: unknown,
  now: number,
): { readonly again: readonly Want[]; readonly over: readonly Want[] } {
  const again: Want[] = [];
  const over: Want[] = [];
  for (const want of wants) {
    if (!isLeftAlone(error)) {
      want.attempts += 1;
      want.retries += 1;
    }
    if (!(error instanceof OutOfTime)) want.why = errorMessage(error);
    const isOver = want.isDemand ? want.deadline <= now : want.isExtra || want.attempts >= idleAttempts;
    (isOver || isFinalFetchError(error, want.attempts) ? over : again).push(want);
  }
  return { again, over };
}

/** ms until these are asked for again. */
export function pauseAfter(wants: readonly Want[], error: unknown, random: number): number {
  const attempts = Math.max(0, ...wants.map((want) => want.attempts));
  return Math.max(50, Math.min(retryAfterMs(error), backoff.maxRetryAfterMs), backoffDelay(backoff, attempts, random));
}

const diskCodes: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EFBIG']);

/** The bytes are right, and the disk does not take them. */
export function isRefusedByDisk(error: unknown): boolean {
  return diskCodes.has(errorCode(error));
}

/** What its readers get when the bytes of a span came and could not be decoded; undefined when it is worth another request. */
export function decodeErrno(want: Want, error: unknown): string | undefined {
  if (isSpanContentError(error)) {
    want.wrong += 1;
    // They may have been damaged on the way.
    return want.wrong === 1 ? undefined : 'EIO';
  }
  const code = errorCode(error);
  return code === 'ENOSPC' || code === 'EDQUOT' ? code : 'EIO';
}

/** Why a span was given up, in full: that time ran out says little. */
export function failureMessage(error: unknown, want: Want | undefined): string {
  const before = error instanceof OutOfTime ? want?.why : undefined;
  return before === undefined ? errorMessage(error) : `${errorMessage(error)}: ${before}`;
}
