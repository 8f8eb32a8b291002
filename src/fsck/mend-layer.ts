import { knownLayerRequest } from '../image/known-layer.ts';
import { LayerError } from '../layer/errors.ts';
import { rewriteWhole } from '../layer/rewrite-whole.ts';
import type { LayerCache } from '../native/layer-cache.ts';
import type { FsckDeps } from './check.ts';
import type { CheckedLayer } from './check-spans.ts';

/**
 * Brings what is missing of a layer that was complete and writes it where it was, so that also those who read its file themselves (the
 * kernel) have the right bytes; then the whole is checked. Errors: LayerError; those of the source; the signal's reason.
 */
export async function mendLayer(
  { state, store, openOrigin, log, downloads }: FsckDeps,
  { layer, paths, index, row, cache }: CheckedLayer & { readonly cache: LayerCache },
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  if (row === undefined) throw new LayerError('ERR_LAYER_FETCH', `nothing is recorded of layer ${layer}`);
  const known = knownLayerRequest({ sources: state.layerSources, openOrigin, log, downloads }, row);
  if (index.info.decoder === 'sequential') return await rewriteWhole({ ...known, signal }, paths, { index, cache });
  const opened = await store.openIfReady({ ...known, signal });
  if (opened === undefined) throw new LayerError('ERR_LAYER_INDEX', `layer ${layer} was removed meanwhile`);
  try {
    await opened.fillCache({ signal });
  } finally {
    await opened.close();
  }
}
