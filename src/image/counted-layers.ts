import type { Layer } from '../layer/layer.ts';
import type { CountedLayer } from '../state/profiles.ts';

type OpenLayer = Pick<Layer, 'descriptor' | 'row' | 'spans'>;

/** How the layers' indexes count their spans, each layer once: without those whose index is the node's own. */
export function countedLayers(layers: readonly OpenLayer[]): CountedLayer[] {
  return [...new Set(layers)].flatMap(({ row, descriptor, spans }) => {
    const { indexFormat, indexDigest } = row;
    if (indexFormat === 'node' || indexDigest === undefined) return [];
    return { layer: descriptor.digest, index: indexDigest, format: indexFormat, spanCount: spans.count };
  });
}
