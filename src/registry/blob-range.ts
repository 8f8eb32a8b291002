import type { Digest } from '../oci/digest.ts';
import { RegistryError } from './errors.ts';

export interface BlobRange {
  readonly start: number;
  readonly end: number | undefined;
}

/** Bytes [start, end) of `what`, a blob or an upload of `size` bytes, clamped to its end; all of them without a range. Errors: RANGE_INVALID. */
export function clampRange(
  range: BlobRange | undefined,
  what: string,
  size: number,
): { readonly start: number; readonly end: number } {
  if (range === undefined) return { start: 0, end: size };
  const { start, end = size } = range;
  if (isRange(range) && start < size) return { start, end: Math.min(end, size) };
  throw new RegistryError('RANGE_INVALID', `${what} has ${size} bytes, asked for [${start}, ${range.end ?? ''})`);
}

/** For a blob whose size is not known yet. Errors: RANGE_INVALID. */
export function checkRange(range: BlobRange, digest: Digest): void {
  if (isRange(range)) return;
  throw new RegistryError('RANGE_INVALID', `not a range of ${digest}: [${range.start}, ${range.end ?? ''})`);
}

function isRange({ start, end }: BlobRange): boolean {
  const isStart = Number.isSafeInteger(start) && start >= 0;
  return isStart && (end === undefined || (Number.isSafeInteger(end) && end > start));
}
