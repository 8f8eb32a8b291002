/**
 * - `FORMAT`: the bytes are not what the format allows (truncated, out of bounds, out of order).
 * - `LIMIT`: well formed perhaps, but larger than we are willing to hold.
 * - `VERSION`: written by a newer release.
 * - `CHECKSUM`: a file of ours changed on disk.
 * - `UNSUPPORTED`: well formed, but of a kind that is not implemented.
 * - `MISMATCH`: a correct index of something else.
 * - `LAYER`: the layer blob itself is damaged.
 * - `BLOB_DIGEST`, `BLOB_SIZE`, `DIFF_ID`: the layer blob is not the one that was asked for.
 */
export type IndexErrorCode =
  | 'ERR_INDEX_FORMAT'
  | 'ERR_INDEX_LIMIT'
  | 'ERR_INDEX_VERSION'
  | 'ERR_INDEX_CHECKSUM'
  | 'ERR_INDEX_UNSUPPORTED'
  | 'ERR_INDEX_MISMATCH'
  | 'ERR_INDEX_LAYER'
  | 'ERR_INDEX_BLOB_DIGEST'
  | 'ERR_INDEX_BLOB_SIZE'
  | 'ERR_INDEX_DIFF_ID';

/** Why an index could not be read or built. The message names what is wrong and where. */
export class IndexError extends Error {
  override readonly name = 'IndexError';
  readonly code: IndexErrorCode;

  constructor(code: IndexErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

export function formatError(message: string): IndexError {
  return new IndexError('ERR_INDEX_FORMAT', message);
}

export function limitError(what: string, value: number, limit: number): IndexError {
  return new IndexError('ERR_INDEX_LIMIT', `${what} is ${value}, more than the limit of ${limit}`);
}
