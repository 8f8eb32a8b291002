import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { OciError } from '../oci/errors.ts';
import { effectiveArtifactType, parseManifestOrIndex } from '../oci/manifest.ts';

/** What a list of referrers says about a manifest, and which subject it is listed under; undefined when it has none. */
export function referrerOf(
  bytes: Uint8Array,
  descriptor: Descriptor,
): { readonly subject: Digest; readonly referrer: Descriptor } | undefined {
  let document;
  try {
    document = parseManifestOrIndex(bytes, descriptor.mediaType);
  } catch (error) {
    if (error instanceof OciError) return undefined;
    throw error;
  }
  if (document.subject === undefined) return undefined;
  const artifactType = effectiveArtifactType(document);
  const { mediaType, digest, size } = descriptor;
  const annotations = Object.keys(document.annotations).length === 0 ? {} : { annotations: document.annotations };
  const referrer = { mediaType, digest, size, ...(artifactType === undefined ? {} : { artifactType }), ...annotations };
  return { subject: document.subject.digest, referrer };
}
