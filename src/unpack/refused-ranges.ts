import { LayerError } from '../layer/errors.ts';
import { hasCode } from '../registry/errors.ts';

/** The registry said that it gives no ranges: it sends the whole blob instead, or refuses. One that gave another range may give the right one the next time. */
export function refusesRanges(error: unknown): boolean {
  if (hasCode(error, 'RANGE_INVALID')) return error.status !== undefined && error.status !== 206;
  return hasCode(error, 'UNSUPPORTED');
}

/** Whether it is why ranges were given up at last. */
export function wereRangesRefused(error: unknown): boolean {
  const why = error instanceof LayerError ? error.cause : error;
  return hasCode(why, 'RANGE_INVALID', 'UNSUPPORTED');
}
