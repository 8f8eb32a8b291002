import type { LayerCache } from '../native/layer-cache.ts';
import { errorCode } from './errors.ts';

/** Whether nothing is to be fetched for a span: it is present, or the cache is closed. */
export function isHere(cache: Pick<LayerCache, 'isPresent'>, span: number): boolean {
  try {
    return cache.isPresent(span);
  } catch (error) {
    if (errorCode(error) === 'ERR_CLOSED') return true;
    throw error;
  }
}
