import { errorCode, errorMessage } from '../layer/errors.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { UnpackError, type UnpackErrorCode } from './errors.ts';

const codes: ReadonlyMap<string, UnpackErrorCode> = new Map([
  ['ERR_INDEX_BLOB_DIGEST', 'ERR_UNPACK_DIGEST'],
  ['ERR_INDEX_BLOB_SIZE', 'ERR_UNPACK_DIGEST'],
  ['ERR_INDEX_DIFF_ID', 'ERR_UNPACK_DIFF_ID'],
  ['ERR_INDEX_LAYER', 'ERR_UNPACK_LAYER'],
  ['ERR_INDEX_LIMIT', 'ERR_UNPACK_LIMIT'],
  ['ERR_INDEX_UNSUPPORTED', 'ERR_UNPACK_UNSUPPORTED'],
  ['ERR_LAYER_DIGEST', 'ERR_UNPACK_DIFF_ID'],
  ['ERR_LAYER_SHORT', 'ERR_UNPACK_DIGEST'],
  ['ERR_LAYER_FETCH', 'ERR_UNPACK_FETCH'],
  ['ERR_LAYER_DISK', 'ERR_UNPACK_DISK'],
  ['ERR_LAYER_UNSUPPORTED', 'ERR_UNPACK_UNSUPPORTED'],
  ['ENOSPC', 'ERR_UNPACK_DISK'],
  ['EDQUOT', 'ERR_UNPACK_DISK'],
  ['EFBIG', 'ERR_UNPACK_DISK'],
  ['EROFS', 'ERR_UNPACK_DISK'],
  ['EIO', 'ERR_UNPACK_DISK'],
]);

/** What went wrong in a pass over the layer, in the words of who unpacks. What is no fault of layer, registry or disk stays as it is. */
export function passError(error: unknown, { digest }: Descriptor): unknown {
  if (error instanceof UnpackError) return error;
  const code = codes.get(errorCode(error) ?? '');
  if (code === undefined) return error;
  const said = errorMessage(error);
  const message = said.includes(digest) ? said : `layer ${digest}: ${said}`;
  return new UnpackError(code, message, { cause: error });
}
