import { constants } from 'node:os';

const names: Readonly<Record<string, string>> = {
  ERR_IMAGE_NOT_FILE: 'EISDIR',
  ERR_IMAGE_DENIED: 'EACCES',
  ERR_MOUNT_PERMISSION: 'EPERM',
  ERR_MOUNT_BUSY: 'EBUSY',
  ERR_CACHE_BUSY: 'EBUSY',
  ERR_IMAGE_CLOSED: 'EBADF',
};

const errnos: Readonly<Record<string, number>> = constants.errno;

/** The errno name that a process reading from a mount sees for `error`; EIO when nothing says otherwise. */
export function errnoName(error: unknown): string {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return 'EIO';
  if (error.code in errnos) return error.code;
  const mapped = names[error.code];
  if (mapped !== undefined) return mapped;
  return error.cause === undefined ? 'EIO' : errnoName(error.cause);
}

/** As libfuse wants it: a negative number. */
export function negativeErrno(error: unknown): number {
  return -(errnos[errnoName(error)] ?? constants.errno.EIO);
}
