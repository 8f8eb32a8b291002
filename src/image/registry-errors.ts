import { errorCode, errorMessage } from '../layer/errors.ts';
import { ImageError } from './errors.ts';

/** What a failed question to a registry means for somebody who named an image; `what` is that name. */
export function imageErrorFrom(error: unknown, what: string): ImageError {
  if (error instanceof ImageError) return error;
  const code = errorCode(error);
  const message = errorMessage(error);
  if (code === 'MANIFEST_UNKNOWN' || code === 'NAME_UNKNOWN' || code === 'BLOB_UNKNOWN') {
    return new ImageError('ERR_IMAGE_UNKNOWN', `no such image: ${what}: ${message}`, { cause: error });
  }
  if (code === 'UNAUTHORIZED' || code === 'DENIED') {
    return new ImageError(
      'ERR_IMAGE_DENIED',
      `access to ${what} was denied: ${message} (check the user and password of peel login or --user, and the name)`,
      { cause: error },
    );
  }
  if (code === 'ERR_OCI_MANIFEST') return new ImageError('ERR_IMAGE_CONTENT', `${what}: ${message}`, { cause: error });
  return new ImageError('ERR_IMAGE_UNREACHABLE', `${what}: ${message}`, { cause: error });
}

/** The registry answered, and the thing is not there. */
export function isUnknown(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'MANIFEST_UNKNOWN' || code === 'NAME_UNKNOWN' || code === 'BLOB_UNKNOWN';
}

/** What is refused, wrong or set up wrongly will not be right again by itself. */
const noOutage: ReadonlySet<string | undefined> = new Set([
  'UNAUTHORIZED',
  'DENIED',
  'UNTRUSTED',
  'CREDENTIALS_INVALID',
  'CONFIG_INVALID',
  'DIGEST_INVALID',
  'ERR_OCI_MANIFEST',
]);

/** The registry could not be asked at all or was too ill to answer; what is known locally may be used instead. */
export function isUnreachable(error: unknown): boolean {
  const code = errorCode(error);
  return !isUnknown(error) && !noOutage.has(code) && !(error instanceof ImageError);
}
