import { LayerError, errorCode, errorMessage } from './errors.ts';
import type { LayerPaths } from './layer-paths.ts';

export function isDiskError(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ENOSPC' || code === 'EDQUOT' || code === 'EROFS' || code === 'EACCES';
}

/** ERR_LAYER_DISK for what the disk refused; everything else as it is. */
export function diskError(error: unknown, paths: Pick<LayerPaths, 'dir'>): unknown {
  if (!isDiskError(error)) return error;
  return new LayerError('ERR_LAYER_DISK', `cannot write the layer to ${paths.dir}: ${errorMessage(error)}`, {
    cause: error,
  });
}
