import type { Blob } from '../index/blob.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { parseManifest } from '../oci/manifest.ts';
import type { ContentFetcher } from './content.ts';
import { ImageError } from './errors.ts';
import type { Origin } from './origin.ts';
import { pushArtifact } from './push-artifact.ts';

/** Whether an index was made on this node: one that was only found has none of its blobs here. */
export async function isWholeHere(content: ContentFetcher, index: Digest): Promise<boolean> {
  const manifest = await content.local(index);
  if (manifest === undefined) return false;
  const { config, layers } = parseManifest(manifest.bytes);
  for (const { digest } of [config, ...layers]) if ((await content.local(digest)) === undefined) return false;
  return true;
}

/**
 * Pushes an index kept on this node beside its image: what it has for each layer as blobs, then the index as a manifest whose subject is the image. A
 * registry without the referrers API gets its fallback tag from the client. Errors: ImageError.
 */
export async function pushIndex(
  content: ContentFetcher,
  origin: Origin,
  index: Digest,
  signal: AbortSignal | undefined,
): Promise<void> {
  const manifest = await content.local(index);
  if (manifest === undefined) throw new ImageError('ERR_IMAGE_INDEX', `index ${index} was not made on this node`);
  const { config, layers, mediaType } = parseManifest(manifest.bytes);
  const artifact = {
    manifest: { ...manifest, descriptor: { ...manifest.descriptor, mediaType } },
    blobs: blobsOf(content, index, [config, ...layers]),
  };
  await pushArtifact(origin, artifact, { what: `index ${index}`, signal });
}

async function* blobsOf(
  content: ContentFetcher,
  index: Digest,
  descriptors: readonly Descriptor[],
): AsyncGenerator<Blob> {
  for (const descriptor of descriptors) {
    const blob = await content.local(descriptor.digest);
    if (blob === undefined)
      throw new ImageError(
        'ERR_IMAGE_INDEX',
        `index ${index} was not made on this node: it lacks ${descriptor.digest}`,
      );
    yield { descriptor, bytes: blob.bytes };
  }
}
