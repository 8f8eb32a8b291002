// Image manifests and image indexes: OCI image spec manifest.md and image-index.md, Docker schema 2 and manifest lists.
import type { Descriptor } from './descriptor.ts';
import { parseDescriptor } from './descriptor-json.ts';
import { OciError } from './errors.ts';
import { baseMediaType, isIndexType, isManifestType, mediaTypes } from './media-type.ts';
import { optionalObject, optionalString, optionalStringMap, parseJsonObject } from './json.ts';

/** Manifests larger than this are refused, by the parser as well as by the registry client (distribution spec, "Pushing Manifests"). */
export const maxManifestBytes = 4 * 1024 * 1024;

export interface Manifest {
  readonly kind: 'manifest';
  readonly mediaType: string;
  readonly artifactType: string | undefined;
  readonly config: Descriptor;
  /** From the bottom layer to the top one. */
  readonly layers: readonly Descriptor[];
  readonly subject: Descriptor | undefined;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface ImageIndex {
  readonly kind: 'index';
  readonly mediaType: string;
  readonly artifactType: string | undefined;
  readonly manifests: readonly Descriptor[];
  readonly subject: Descriptor | undefined;
  readonly annotations: Readonly<Record<string, string>>;
}

/**
 * Parses a manifest or an index. `mediaType` is what the registry or the descriptor said it is; a document that says otherwise about itself,
 * or that could be read both ways, is refused (CVE-2021-41190). Errors: ERR_OCI_MANIFEST.
 */
export function parseManifestOrIndex(bytes: Uint8Array, mediaType?: string): Manifest | ImageIndex {
  if (bytes.byteLength > maxManifestBytes) {
    throw fail(`manifest has ${bytes.byteLength} bytes, more than the ${maxManifestBytes} allowed`);
  }
  const json = parseJsonObject(bytes, 'manifest');
  if (json['schemaVersion'] === 1) throw fail('manifest has the deprecated docker schema 1, which is not supported');
  if (json['schemaVersion'] !== 2) throw fail('manifest has no schemaVersion 2');
  const type = agreedMediaType(optionalString(json, 'mediaType', 'manifest'), mediaType, json);
  const common = {
    mediaType: type,
    artifactType: optionalString(json, 'artifactType', 'manifest'),
    subject: parseSubject(json),
    annotations: optionalStringMap(json, 'annotations', 'manifest') ?? {},
  };
  if (isIndexType(type)) {
    if ('layers' in json || 'config' in json || 'fsLayers' in json)
      throw fail('image index also has the fields of a manifest');
    return { kind: 'index', ...common, manifests: parseDescriptors(json['manifests'], 'manifests') };
  }
  if ('manifests' in json || 'fsLayers' in json) throw fail('manifest also has the fields of another manifest format');
  return {
    kind: 'manifest',
    ...common,
    config: parseDescriptor(json['config'], 'config'),
    // Absent in some artifacts that are only a config.
    layers: json['layers'] === undefined ? [] : parseDescriptors(json['layers'], 'layers'),
  };
}

/** Errors: ERR_OCI_MANIFEST, also when the document is an index. */
export function parseManifest(bytes: Uint8Array, mediaType?: string): Manifest {
  const document = parseManifestOrIndex(bytes, mediaType);
  if (document.kind !== 'manifest') throw fail('expected an image manifest, found an image index');
  return document;
}

/** Errors: ERR_OCI_MANIFEST, also when the document is a manifest. */
export function parseImageIndex(bytes: Uint8Array, mediaType?: string): ImageIndex {
  const document = parseManifestOrIndex(bytes, mediaType);
  if (document.kind !== 'index') throw fail('expected an image index, found an image manifest');
  return document;
}

/** What a referrers list says a manifest is: its artifactType, else its config's media type (distribution spec, "Listing Referrers"). */
export function effectiveArtifactType(document: Manifest | ImageIndex): string | undefined {
  if (document.artifactType !== undefined && document.artifactType !== '') return document.artifactType;
  return document.kind === 'manifest' ? document.config.mediaType : undefined;
}

function agreedMediaType(
  own: string | undefined,
  told: string | undefined,
  json: Readonly<Record<string, unknown>>,
): string {
  // Registries that do not know the type say "application/octet-stream" or "application/json": no statement at all.
  const stated = told !== undefined && (isIndexType(told) || isManifestType(told)) ? baseMediaType(told) : undefined;
  if (own !== undefined) {
    if (!isIndexType(own) && !isManifestType(own))
      throw fail(`media type ${JSON.stringify(own)} is not a manifest this version reads`);
    if (stated !== undefined && stated !== baseMediaType(own))
      throw fail(`manifest says it is ${own} but was sent as ${stated}`);
    return baseMediaType(own);
  }
  if (stated !== undefined) return stated;
  return Array.isArray(json['manifests']) ? mediaTypes.imageIndex : mediaTypes.imageManifest;
}

function parseSubject(json: Readonly<Record<string, unknown>>): Descriptor | undefined {
  const subject = optionalObject(json, 'subject', 'manifest');
  return subject === undefined ? undefined : parseDescriptor(subject, 'subject');
}

function parseDescriptors(value: unknown, field: string): Descriptor[] {
  if (!Array.isArray(value)) throw fail(`${field} is not a list`);
  return value.map((item: unknown, i) => parseDescriptor(item, `${field}[${i}]`));
}

function fail(message: string): OciError {
  return new OciError('ERR_OCI_MANIFEST', message);
}
