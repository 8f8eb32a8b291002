// What a store looks at before it takes a manifest.
import type { Descriptor } from '../oci/descriptor.ts';
import { digestAlgorithm } from '../oci/digest.ts';
import type { Digest } from '../oci/digest.ts';
import { OciError } from '../oci/errors.ts';
import { maxManifestBytes, parseManifestOrIndex } from '../oci/manifest.ts';
import type { ImageIndex, Manifest } from '../oci/manifest.ts';
import { baseMediaType, isIndexType, isManifestType, layerType } from '../oci/media-type.ts';
import { digestOf } from './blob-content.ts';
import { RegistryError } from './errors.ts';
import type { PushManifestOptions } from './interface.ts';
import { statedMediaType } from './manifest-media-type.ts';
import { checkTag } from './names.ts';

/** What a store looks at before it takes a manifest: what it is, and the name it is stored under. Errors: TAG_INVALID, TOO_LARGE, MANIFEST_INVALID, DIGEST_INVALID. */
export function acceptManifest(
  tag: string | undefined,
  bytes: Uint8Array,
  mediaType: string,
  { digest }: { readonly digest?: Digest | undefined },
): { readonly document: Manifest | ImageIndex | undefined; readonly descriptor: Descriptor } {
  if (tag !== undefined) checkTag(tag);
  const document = checkManifest(bytes, mediaType);
  return { document, descriptor: { mediaType, digest: nameOfManifest(bytes, digest), size: bytes.byteLength } };
}

/** Undefined for media types that are stored as they are. Errors: TOO_LARGE, MANIFEST_INVALID. */
function checkManifest(bytes: Uint8Array, mediaType: string): Manifest | ImageIndex | undefined {
  if (bytes.byteLength > maxManifestBytes) {
    throw new RegistryError(
      'TOO_LARGE',
      `manifest has ${bytes.byteLength} bytes, more than the ${maxManifestBytes} allowed`,
    );
  }
  if (!isManifestType(mediaType) && !isIndexType(mediaType)) {
    checkOwnMediaType(bytes, mediaType);
    return undefined;
  }
  try {
    return parseManifestOrIndex(bytes, mediaType);
  } catch (error) {
    if (!(error instanceof OciError)) throw error;
    throw new RegistryError('MANIFEST_INVALID', error.message, { cause: error });
  }
}

/** A document that says what it is must be sent as that ("clients MUST set the Content-Type header to the value specified by the `mediaType` field"). */
function checkOwnMediaType(bytes: Uint8Array, mediaType: string): void {
  const own = statedMediaType(bytes);
  if (own !== undefined && own !== baseMediaType(mediaType))
    throw new RegistryError('MANIFEST_INVALID', `manifest says it is ${own} but was sent as ${mediaType}`);
}

/** The blobs that must be there before a manifest is of use. Foreign layers lie elsewhere; the manifests of an index may come later. */
export function requiredBlobs(document: Manifest | ImageIndex): readonly Descriptor[] {
  if (document.kind === 'index') return [];
  return [document.config, ...document.layers.filter(({ mediaType }) => layerType(mediaType)?.foreign !== true)];
}

/** Errors: MANIFEST_BLOB_UNKNOWN naming the first blob that the repository does not have, unless blobs may be missing. */
export async function checkRequiredBlobs(
  document: Manifest | ImageIndex | undefined,
  repository: string,
  has: (digest: Digest) => boolean | Promise<boolean>,
  { allowMissing = false }: Pick<PushManifestOptions, 'allowMissing'>,
): Promise<void> {
  for (const { digest } of document === undefined || allowMissing ? [] : requiredBlobs(document)) {
    if (await has(digest)) continue;
    throw new RegistryError(
      'MANIFEST_BLOB_UNKNOWN',
      `manifest names blob ${digest}, which ${repository} does not have`,
    );
  }
}

/** The digest a manifest is stored under. Errors: DIGEST_INVALID when it is not the one wanted. */
export function nameOfManifest(bytes: Uint8Array, wanted: Digest | undefined): Digest {
  const digest = digestOf(bytes, wanted === undefined ? 'sha256' : digestAlgorithm(wanted));
  if (wanted === undefined || wanted === digest) return digest;
  throw new RegistryError('DIGEST_INVALID', `manifest announced as ${wanted} is ${digest}`);
}
