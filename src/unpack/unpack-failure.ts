import { errorCode, errorMessage } from '../layer/errors.ts';
import { UnpackError } from './errors.ts';
import type { UnpackErrorCode } from './errors.ts';

const codes: Readonly<Record<string, UnpackErrorCode>> = {
  ENOSPC: 'ERR_UNPACK_DISK',
  EDQUOT: 'ERR_UNPACK_DISK',
  EROFS: 'ERR_UNPACK_DISK',
  EIO: 'ERR_UNPACK_DISK',
  EMFILE: 'ERR_UNPACK_DISK',
  ENFILE: 'ERR_UNPACK_DISK',
  EACCES: 'ERR_UNPACK_DISK',
  EPERM: 'ERR_UNPACK_DISK',
  // What the filesystem cannot hold: two names that it takes for one, a name or an attribute that is too long for it.
  EEXIST: 'ERR_UNPACK_ENTRY',
  ENOTDIR: 'ERR_UNPACK_ENTRY',
  ELOOP: 'ERR_UNPACK_ENTRY',
  ENAMETOOLONG: 'ERR_UNPACK_ENTRY',
  EMLINK: 'ERR_UNPACK_ENTRY',
  E2BIG: 'ERR_UNPACK_ENTRY',
  EOPNOTSUPP: 'ERR_UNPACK_ENTRY',
  EFBIG: 'ERR_UNPACK_ENTRY',
  ERR_LAYER_DISK: 'ERR_UNPACK_DISK',
  ERR_LAYER_FETCH: 'ERR_UNPACK_FETCH',
  ERR_LAYER_SHORT: 'ERR_UNPACK_FETCH',
  ERR_LAYER_DIGEST: 'ERR_UNPACK_DIFF_ID',
};

/** Whatever ended a job, as an UnpackError that names the layer; the reason of a signal as it is. */
export function unpackFailure(error: unknown, layer: string): unknown {
  if (error instanceof UnpackError) return error;
  const code = codes[errorCode(error) ?? ''];
  if (code === undefined) return error;
  return new UnpackError(code, `layer ${layer}: ${errorMessage(error)}`, { cause: error });
}

/** Damaged on the way, or by a program that failed: worth another attempt from the first byte. */
export function isWorthAnotherTry(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ERR_UNPACK_DIGEST' || code === 'ERR_UNPACK_LAYER' || code === 'ERR_UNPACK_DECOMPRESSOR';
}
