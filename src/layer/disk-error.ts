import { LayerError, errorCode, errorMessage } from './errors.ts';
import type { LayerPaths } from './layer-paths.ts';

export function isDiskError(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ENOSPC' || code === 'EDQUOT' || code === 'EROFS' || code === 'EACCES';
}

/** ERR_LAYER_DISK for what the disk refused, ERR_LAYER_VERSION for what a newer release wrote; everything else as it is. */
export function diskError(error: unknown, paths: Pick<LayerPaths, 'dir'>): unknown {
  if (errorCode(error) === 'EPROTONOSUPPORT') {
    return new LayerError(
      'ERR_LAYER_VERSION',
      `a newer peel wrote the layer in ${paths.dir}, or has it open: upgrade peel, or remove the layer with that one`,
      { cause: error },
    );
  }
  if (!isDiskError(error)) return error;
  return new LayerError('ERR_LAYER_DISK', `cannot write the layer to ${paths.dir}: ${errorMessage(error)}`, {
    cause: error,
  });
}
