import type { Layer } from '../layer/layer.ts';
import type { CountedLayer, LayerOrder } from '../state/profiles.ts';

type OpenLayer = Pick<Layer, 'descriptor' | 'row' | 'spans'>;

/** How the layers' indexes count their spans, each layer once: without those whose index is the node's own. */
export function countedLayers(layers: readonly OpenLayer[]): CountedLayer[] {
  return [...new Set(layers)].flatMap(({ row, descriptor, spans }) => {
    const { indexFormat, indexDigest } = row;
    if (indexFormat === 'node' || indexDigest === undefined) return [];
    return { layer: descriptor.digest, index: indexDigest, format: indexFormat, spanCount: spans.count };
  });
}

interface Started {
  readonly layer: Pick<Layer, 'descriptor' | 'row' | 'spans' | 'complete'>;
  readonly order: readonly number[];
  readonly whole: boolean;
}

/**
 * What one start touched, as profiles keep it. Without layers whose first reads were not seen all: an earlier start of this process had them,
 * or the kernel read the file of a complete one by itself.
 */
export function recordedLayers(layers: readonly Started[]): LayerOrder[] {
  return layers.flatMap(({ layer, order, whole }) => {
    const { indexFormat, indexDigest } = layer.row;
    const isSeen = whole && (order.length > 0 || !layer.complete);
    if (!isSeen || indexFormat === 'node' || indexDigest === undefined) return [];
    const { descriptor, spans } = layer;
    return [
      { layer: descriptor.digest, index: indexDigest, format: indexFormat, spanCount: spans.count, spans: order },
    ];
  });
}
