import { baseMediaType, isIndexType, isManifestType, mediaTypes } from '../oci/media-type.ts';

/** The Content-Type when it names a manifest; else what the document says it is or looks like; else octet-stream. */
export function manifestMediaType(bytes: Uint8Array, contentType: string | undefined): string {
  const told = baseMediaType(contentType ?? '');
  if (isManifestType(told) || isIndexType(told)) return told;
  const { mediaType, schemaVersion, manifests, layers } = fieldsOf(bytes);
  if (typeof mediaType === 'string' && mediaType !== '') return baseMediaType(mediaType);
  if (schemaVersion === 2 && Array.isArray(manifests)) return mediaTypes.imageIndex;
  if (schemaVersion === 2 && Array.isArray(layers)) return mediaTypes.imageManifest;
  return told === '' ? mediaTypes.octetStream : told;
}

/** What a document says it is in its field `mediaType`. */
export function statedMediaType(bytes: Uint8Array): string | undefined {
  const { mediaType } = fieldsOf(bytes);
  return typeof mediaType === 'string' && mediaType !== '' ? baseMediaType(mediaType) : undefined;
}

/** None for what is no JSON; the parser of manifests says what is wrong with it. */
function fieldsOf(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  try {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
    return (JSON.parse(text) ?? {}) as Readonly<Record<string, unknown>>;
  } catch {
    return {};
  }
}
