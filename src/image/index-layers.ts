// Which layers of an image are worth an index, as far as their descriptors tell.
import type { Descriptor } from '../oci/descriptor.ts';
import type { Manifest } from '../oci/manifest.ts';
import { layerType } from '../oci/media-type.ts';
import type { IndexKind } from '../state/indexes.ts';
import { humanBytes } from '../util/human-bytes.ts';

/** Bytes of a blob below which it gets no index. A peel index costs little, so that it pays earlier. */
export const defaultMinLayerSize: Readonly<Record<IndexKind, number>> = { peel: 1 << 20, soci: 10 << 20 };

/** The layers of an image, each digest once, lowest first. */
export function distinctLayers({ layers }: Manifest): Descriptor[] {
  return [...new Map(layers.map((layer) => [layer.digest, layer])).values()];
}

/** Why a layer gets no index of this kind; undefined when it has to be read. */
export function skippedUnread(
  kind: IndexKind,
  { size, mediaType }: Descriptor,
  minLayerSize = defaultMinLayerSize[kind],
): string | undefined {
  if (size < minLayerSize) return `smaller than ${humanBytes(minLayerSize)}`;
  if (kind === 'peel') return undefined;
  return layerType(mediaType)?.compression === 'zstd' ? 'a zTOC cannot describe zstd layers' : undefined;
}
