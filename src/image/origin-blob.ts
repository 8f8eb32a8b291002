import { registryBlobSource } from '../layer/blob-source.ts';
import type { BlobSource } from '../layer/blob-source.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { layerType } from '../oci/media-type.ts';
import { foreignBlobSource } from './foreign-blob-source.ts';
import type { Origin } from './origin.ts';

/** A blob from where its image is, or where its descriptor says when that is elsewhere. */
export function sourceOf(origin: Origin, descriptor: Descriptor): BlobSource {
  const source = registryBlobSource(origin.registry, origin.repository, origin.name, descriptor);
  const urls = descriptor.urls ?? [];
  return layerType(descriptor.mediaType)?.foreign === true && urls.length > 0
    ? foreignBlobSource(source, descriptor)
    : source;
}
