import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { mediaTypes } from '../oci/media-type.ts';
import { type Blob, blobOf } from './blob.ts';
import { createdAnnotation } from './created-annotation.ts';
import { encodeGoJson, goDescriptor, goStringMap } from './go-json.ts';
import { defaultIndexLimits } from './limits.ts';
import { readIndexManifest } from './read-index-manifest.ts';
import { prefetchMediaType, sociAnnotations, sociIndexTypes } from './soci-names.ts';
import { writePrefetch } from './soci-prefetch.ts';

export interface SociPrefetchInit {
  /** A SOCI index manifest of either version. */
  readonly index: Uint8Array;
  /** The image manifest. */
  readonly subject: Descriptor;
  /** ms since the epoch: what makes it the newest of the image. */
  readonly createdAt: number;
  /** In the order of the image's layers; spans of their zTOCs, in the order to fetch, at least one each. */
  readonly prefetch: readonly { readonly layer: Digest; readonly spans: readonly number[] }[];
}

export interface SociPrefetchFiles {
  readonly manifest: Blob;
  /** The config and the lists of spans; the zTOCs are those of the index that it was made of. */
  readonly blobs: readonly Blob[];
}

/**
 * The same index as one of version 1 that also says what to fetch first, in Go's bytes. Equal input gives equal bytes.
 * Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT.
 */
export function sociIndexWithPrefetch(init: SociPrefetchInit): SociPrefetchFiles {
  const { layers, annotations } = readIndexManifest(init.index, 'SOCI index', defaultIndexLimits);
  const config = blobOf(sociIndexTypes.v1, Buffer.from('{}'));
  const lists = init.prefetch.map(({ layer, spans }) => {
    const { descriptor, bytes } = blobOf(prefetchMediaType, writePrefetch(spans));
    return { bytes, descriptor: { ...descriptor, annotations: { [sociAnnotations.layerDigest]: layer } } };
  });
  const { mediaType, digest, size } = init.subject;
  const kept = layers.filter((layer) => layer.mediaType !== prefetchMediaType);
  const bytes = encodeGoJson({
    schemaVersion: 2,
    mediaType: mediaTypes.imageManifest,
    config: goDescriptor(config.descriptor),
    layers: [...kept, ...lists.map(({ descriptor }) => descriptor)].map(goDescriptor),
    subject: goDescriptor({ mediaType, digest, size }),
    annotations: goStringMap({ ...annotations, [createdAnnotation]: new Date(init.createdAt).toISOString() }),
  });
  const manifest = blobOf(mediaTypes.imageManifest, bytes);
  return {
    manifest: { ...manifest, descriptor: { ...manifest.descriptor, artifactType: sociIndexTypes.v1 } },
    blobs: [config, ...lists],
  };
}
