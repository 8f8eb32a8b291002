// A layer's block cache for a moment, whoever serves the layer: to look at it, or to free room in it.
import { openNodeIndex } from '../index/node-index.ts';
import type { NodeIndex } from '../index/node-index.ts';
import { LayerCache } from '../native/layer-cache.ts';
import type { Digest } from '../oci/digest.ts';
import { errorCode } from './errors.ts';
import type { Evictable } from './evictable.ts';
import { fileIdentity } from './file-identity.ts';
import type { LayerPaths } from './layer-paths.ts';

type Evicting = Pick<Evictable, 'lastUsed' | 'coarseNow' | 'evict'>;

/**
 * Runs `use` on the cache, during which nobody can remove the layer. Undefined where the layer is not there, is made at this moment, or is
 * empty. Errors: IndexError, errno codes; those of `use`.
 */
export async function withCache<T>(
  layer: Digest,
  paths: LayerPaths,
  use: (evictable: Evictable) => Promise<T> | T,
): Promise<T | undefined> {
  const before = await fileIdentity(paths.index);
  if (before === undefined) return undefined;
  let index: NodeIndex | undefined;
  let cache: LayerCache | undefined;
  try {
    index = await openNodeIndex(paths.index);
    if (index.spans.count === 0) return undefined;
    cache = LayerCache.open({
      dir: paths.dir,
      livePath: paths.live,
      streamSize: index.spans.streamSize,
      spanStarts: index.spans.streamStarts,
      fingerprint: index.fingerprint,
    });
    // Between reading the index and holding the lock somebody may have removed the layer and made it anew.
    if ((await fileIdentity(paths.index)) !== before) return undefined;
    return await use(evictableOf(layer, index, cache));
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  } finally {
    await cache?.close();
    await index?.close();
  }
}

function evictableOf(layer: Digest, index: NodeIndex, cache: LayerCache): Evictable {
  const { streamStarts, count } = index.spans;
  return {
    layer,
    spanStarts: streamStarts,
    // What cannot be fetched span by span is worth something only when it is whole.
    complete: cache.complete || index.info.decoder === 'sequential',
    isPresent: (span) => cache.isPresent(span),
    lastUsed: () => (canEvict(cache) ? cache.lastUsed() : new Uint32Array(count)),
    coarseNow: () => (canEvict(cache) ? cache.coarseNow() : 0),
    evict: async (spans) => (canEvict(cache) ? await cache.evict(spans) : { evicted: 0, bytes: 0 }),
  };
}

function canEvict(cache: LayerCache | (LayerCache & Evicting)): cache is LayerCache & Evicting {
  return 'evict' in cache;
}
