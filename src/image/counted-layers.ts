import type { Layer } from '../layer/layer.ts';
import type { CountedLayer } from '../state/profiles.ts';

type OpenLayer = Pick<Layer, 'descriptor' | 'row' | 'spans' | 'complete'>;

/** How the layers' indexes count their spans, each layer once: without those that have all their bytes, or an index of the node's own. */
export function countedLayers(layers: readonly OpenLayer[]): CountedLayer[] {
  return [...new Set(layers)].flatMap(({ complete, row, descriptor, spans }) => {
    const { indexFormat, indexDigest } = row;
    if (complete || indexFormat === 'node' || indexDigest === undefined) return [];
    return { layer: descriptor.digest, index: indexDigest, format: indexFormat, spanCount: spans.count };
  });
}
