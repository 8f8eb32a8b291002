import { baseMediaType, isIndexType, isManifestType, mediaTypes } from '../oci/media-type.ts';

/** The Content-Type when it names a manifest; else what the document says it is or looks like; else octet-stream. */
export function manifestMediaType(bytes: Uint8Array, contentType: string | undefined): string {
  const told = baseMediaType(contentType ?? '');
  if (isManifestType(told) || isIndexType(told)) return told;
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'));
  } catch {
    // The parser of manifests says what is wrong with it.
  }
  const { mediaType, schemaVersion, manifests, layers } = (json ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof mediaType === 'string' && mediaType !== '') return baseMediaType(mediaType);
  if (schemaVersion === 2 && Array.isArray(manifests)) return mediaTypes.imageIndex;
  if (schemaVersion === 2 && Array.isArray(layers)) return mediaTypes.imageManifest;
  return told === '' ? mediaTypes.octetStream : told;
}
