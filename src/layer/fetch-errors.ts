import { errorCode } from './errors.ts';

/** The registry said that it has not got the bytes or will not give them: asking again within one read helps nobody. */
const finalCodes: ReadonlySet<string> = new Set([
  'BLOB_UNKNOWN',
  'NAME_UNKNOWN',
  'NAME_INVALID',
  'UNAUTHORIZED',
  'DENIED',
  'UNSUPPORTED',
  'DIGEST_INVALID',
  'CREDENTIALS_INVALID',
  'CONFIG_INVALID',
  'UNTRUSTED',
  'ERR_LAYER_SHORT',
  'ERR_LAYER_CLOSED',
  'ERR_UNPACK_FETCH',
  'ERR_UNPACK_DISK',
  'ERR_UNPACK_DIGEST',
  'ERR_UNPACK_CANCELLED',
]);

/** Answers that a broken proxy gives every time, but a balanced one only sometimes. */
const doubtfulCodes: ReadonlySet<string> = new Set(['RANGE_INVALID', 'SIZE_INVALID', 'RESPONSE_INVALID']);
const doubtfulAttempts = 3;

/** `attempts` counts the failures so far, this one included. */
export function isFinalFetchError(error: unknown, attempts: number): boolean {
  const code = errorCode(error);
  return code !== undefined && (finalCodes.has(code) || (doubtfulCodes.has(code) && attempts >= doubtfulAttempts));
}

/** The decoder found that the bytes are not those that the index describes. */
export function isSpanContentError(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ERR_SPAN_DIGEST' || code === 'ERR_SPAN_INFLATE' || code === 'ERR_SPAN_LENGTH';
}

/** A window came, or was here, and is not the one that the index describes. */
export function isWindowContentError(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ERR_INDEX_CHECKSUM' || code === 'ERR_INDEX_FORMAT';
}

/** Nothing was asked: whoever has the bytes is left alone after failures. */
export function isLeftAlone(error: unknown): boolean {
  return (error as { readonly away?: boolean | undefined } | undefined)?.away === true;
}

/** ms that the registry asked us to stay away. */
export function retryAfterMs(error: unknown): number {
  const facts = error as { readonly retryAfterMs?: number | undefined } | undefined;
  return facts?.retryAfterMs ?? 0;
}
