import { Readable } from 'node:stream';
import type { Blob } from '../index/blob.ts';
import type { Origin } from './origin.ts';
import { imageErrorFrom } from './registry-errors.ts';

export interface Artifact {
  readonly manifest: Blob;
  readonly blobs: Iterable<Blob> | AsyncIterable<Blob>;
}

/**
 * Pushes something whose subject is an image beside it: the blobs, then the manifest. A registry without the referrers API gets its fallback tag
 * from the client. `what` names it in messages. Errors: ImageError.
 */
export async function pushArtifact(
  { name, registry, repository }: Origin,
  { manifest, blobs }: Artifact,
  { what, signal }: { readonly what: string; readonly signal: AbortSignal | undefined },
): Promise<void> {
  try {
    for await (const { descriptor, bytes } of blobs)
      await registry.pushBlob(repository, descriptor, () => Readable.from([Buffer.from(bytes)]), { signal });
    await registry.pushManifest(repository, undefined, manifest.bytes, manifest.descriptor.mediaType, { signal });
  } catch (error) {
    throw imageErrorFrom(error, `${name} (pushing ${what})`);
  }
}
