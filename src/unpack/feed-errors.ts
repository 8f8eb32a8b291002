import { errorCode, errorMessage } from '../layer/errors.ts';
import { UnpackError } from './errors.ts';

/** `what` names the file: `cannot write /…/blob`. */
export function diskError(what: string, cause: unknown): UnpackError {
  if (cause instanceof UnpackError) return cause;
  return new UnpackError('ERR_UNPACK_DISK', `${what}: ${errorMessage(cause)}`, { cause });
}

/** The registry's blob is shorter than it should be, or was found to be another one while it came. */
const otherBlob: ReadonlySet<string | undefined> = new Set<string | undefined>([
  'ERR_LAYER_SHORT',
  'DIGEST_INVALID',
  'SIZE_INVALID',
]);

/** ERR_UNPACK_FETCH, or ERR_UNPACK_DIGEST when the blob itself is wrong. `name` is that of the source. */
export function fetchError(name: string, cause: unknown): UnpackError {
  if (cause instanceof UnpackError) return cause;
  const isOther = [cause, (cause as Error | undefined)?.cause].some((error) => otherBlob.has(errorCode(error)));
  const text = errorMessage(cause);
  const message = text.includes(name) ? text : `cannot download ${name}: ${text}`;
  return new UnpackError(isOther ? 'ERR_UNPACK_DIGEST' : 'ERR_UNPACK_FETCH', message, { cause });
}
