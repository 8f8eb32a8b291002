import type { Descriptor } from '../oci/descriptor.ts';
import { type Digest, isDigest } from '../oci/digest.ts';
import { formatError, IndexError } from './errors.ts';
import { defaultIndexLimits, type IndexLimits } from './limits.ts';
import { readIndexManifest } from './read-index-manifest.ts';
import { prefetchMediaType, sociAnnotations, sociIndexTypes, type SociVersion, ztocMediaType } from './soci-names.ts';

/** Where the zTOC of one layer is. */
export interface SociLayer {
  /** Digest of the layer blob. */
  readonly layer: Digest;
  readonly layerMediaType: string | undefined;
  /** Bytes of stream per span that were asked for, informative. */
  readonly spanSize: number | undefined;
  /** The zTOC blob, in the image's repository. */
  readonly ztoc: Descriptor;
}

/** A SOCI index manifest: which layers of an image have a zTOC. Layers may be missing (sparse index). */
export interface SociIndex {
  readonly version: SociVersion;
  /** The image manifest it is for; version 1 only. */
  readonly subject: Descriptor | undefined;
  readonly buildTool: string | undefined;
  /** In the order of the image's layers, one per layer digest. */
  readonly layers: readonly SociLayer[];
  /** Lists of spans to fetch at start-up. */
  readonly prefetch: readonly Descriptor[];
}

/**
 * Reads a SOCI index manifest of version 1 or 2. That its bytes have the digest they were asked for by is the caller's check.
 * Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT, ERR_INDEX_UNSUPPORTED when the config's media type is not SOCI's.
 */
export function readSociIndex(bytes: Uint8Array, options: { limits?: IndexLimits | undefined } = {}): SociIndex {
  const limits = options.limits ?? defaultIndexLimits;
  const manifest = readIndexManifest(bytes, 'SOCI index', limits);
  const version = versionOf(manifest.config.mediaType);
  if (version === 'v1' && manifest.subject === undefined) throw formatError('SOCI index v1 has no subject');
  const layers = new Map<Digest, SociLayer>();
  for (const [i, descriptor] of manifest.layers.entries()) {
    if (descriptor.mediaType !== ztocMediaType) continue;
    const layer = readLayer(descriptor, `SOCI index layers[${i}]`);
    if (!layers.has(layer.layer)) layers.set(layer.layer, layer);
  }
  return {
    version,
    subject: manifest.subject,
    buildTool: manifest.annotations[sociAnnotations.buildTool],
    layers: [...layers.values()],
    prefetch: manifest.layers.filter((descriptor) => descriptor.mediaType === prefetchMediaType),
  };
}

function versionOf(configType: string): SociVersion {
  for (const version of ['v1', 'v2'] as const) {
    if (sociIndexTypes[version] === configType) return version;
  }
  const shown = JSON.stringify(configType.slice(0, 100));
  throw new IndexError('ERR_INDEX_UNSUPPORTED', `not a SOCI index: its config has the media type ${shown}`);
}

function readLayer(descriptor: Descriptor, what: string): SociLayer {
  const annotations = descriptor.annotations ?? {};
  const layer = annotations[sociAnnotations.layerDigest];
  if (layer === undefined || !isDigest(layer)) {
    throw formatError(
      `${what} names no layer: ${sociAnnotations.layerDigest} is ${JSON.stringify(layer)?.slice(0, 100)}`,
    );
  }
  const spanSize = Number(annotations[sociAnnotations.spanSize]);
  return {
    layer,
    layerMediaType: annotations[sociAnnotations.layerMediaType],
    spanSize: Number.isSafeInteger(spanSize) && spanSize > 0 ? spanSize : undefined,
    ztoc: descriptor,
  };
}
