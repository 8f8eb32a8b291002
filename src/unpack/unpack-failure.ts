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
  SQLITE_FULL: 'ERR_UNPACK_DISK',
  SQLITE_IOERR: 'ERR_UNPACK_DISK',
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
  if (error instanceof UnpackError || error instanceof IndexUnusable) return error;
  const code = codes[errorCode(error) ?? ''];
  if (code === undefined) return error;
  return new UnpackError(code, `layer ${layer}: ${errorMessage(error)}`, { cause: error });
}

/** A layer could not be unpacked by the index that the node has of it: without one it may be. */
export class IndexUnusable extends Error {
  constructor(layer: string, cause: unknown) {
    super(`layer ${layer} cannot be unpacked by its index: ${errorMessage(cause)}`, { cause });
    this.name = 'IndexUnusable';
  }
}

/** How a layer is tried. */
export interface Attempt {
  /** Whether an index that the node has of the layer is used. */
  readonly index: 'use' | 'ignore';
  /** Whether the machine is asked for the blob: `ignore` after damage, which may be there. */
  readonly local: 'ask' | 'ignore';
}

const maxDamaged = 2;

/** How often one thing is tried, and how. */
export class Retries {
  #attempt: Attempt = { index: 'use', local: 'ask' };
  #damaged = 0;

  get attempt(): Attempt {
    return this.#attempt;
  }

  /** Damaged on the way, or by a program that failed, or not where it was. To be asked for each failure, once. */
  isWorthAnother(failure: unknown): boolean {
    if (failure instanceof IndexUnusable && this.#attempt.index === 'use') {
      this.#attempt = { ...this.#attempt, index: 'ignore' };
      return true;
    }
    const code = errorCode(failure);
    if (code === undefined || !worthAnother.has(code)) return false;
    this.#damaged += 1;
    this.#attempt = { ...this.#attempt, local: 'ignore' };
    return this.#damaged < maxDamaged;
  }
}

const worthAnother: ReadonlySet<string> = new Set<UnpackErrorCode>([
  'ERR_UNPACK_DIGEST',
  'ERR_UNPACK_LAYER',
  'ERR_UNPACK_DECOMPRESSOR',
  'ERR_UNPACK_BLOB_MISSING',
]);
