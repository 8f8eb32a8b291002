import type { LayerRef } from '../image/layer-trees.ts';
import type { Layer } from '../layer/layer.ts';

/** What a tree is compiled from. */
export function layerRef({ descriptor, fingerprint, paths, streamSize }: Layer): LayerRef {
  return { digest: descriptor.digest, fingerprint, indexPath: paths.index, streamSize };
}
