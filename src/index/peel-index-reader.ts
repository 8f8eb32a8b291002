import type { Descriptor } from '../oci/descriptor.ts';
import { type Digest, isDigest } from '../oci/digest.ts';
import type { Manifest } from '../oci/manifest.ts';
import { formatError, IndexError } from './errors.ts';
import { defaultIndexLimits, type IndexLimits } from './limits.ts';
import { readIndexManifest } from './read-index-manifest.ts';
import type { PeelIndex, PeelLayer } from './peel-index.ts';
import { peelAnnotations, peelIndexType, peelTableType, peelWindowsType } from './peel-names.ts';

/**
 * Reads the manifest of a peel index. That its bytes have the digest they were asked for by is the caller's check.
 * Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT, ERR_INDEX_UNSUPPORTED when it is the manifest of something else.
 */
export function readPeelIndex(bytes: Uint8Array, options: { limits?: IndexLimits | undefined } = {}): PeelIndex {
  const limits = options.limits ?? defaultIndexLimits;
  const manifest = readIndexManifest(bytes, 'peel index', limits);
  checkTypes(manifest);
  if (manifest.subject === undefined) throw formatError('peel index has no subject');
  const windows = byLayer(manifest, peelWindowsType);
  const layers = [...byLayer(manifest, peelTableType)].map(([layer, table]): PeelLayer => {
    const found = windows.get(layer);
    windows.delete(layer);
    return { layer, spanSize: spanSizeOf(table), table, windows: found };
  });
  for (const layer of windows.keys()) throw formatError(`peel index has windows but no table for layer ${layer}`);
  return { subject: manifest.subject, buildTool: manifest.annotations[peelAnnotations.buildTool], layers };
}

function checkTypes({ config, artifactType = peelIndexType }: Manifest): void {
  for (const [what, type] of [
    ['its config has the media type', config.mediaType],
    ['its artifact type is', artifactType],
  ] as const) {
    if (type === peelIndexType) continue;
    const shown = JSON.stringify(type.slice(0, 100));
    throw new IndexError('ERR_INDEX_UNSUPPORTED', `not a peel index: ${what} ${shown}`);
  }
}

/** The blobs of one kind, by the layer they are for. Other kinds are passed over. */
function byLayer(manifest: Manifest, mediaType: string): Map<Digest, Descriptor> {
  const blobs = new Map<Digest, Descriptor>();
  for (const [i, descriptor] of manifest.layers.entries()) {
    if (descriptor.mediaType !== mediaType) continue;
    const layer = descriptor.annotations?.[peelAnnotations.layerDigest];
    if (layer === undefined || !isDigest(layer)) {
      const shown = JSON.stringify(layer)?.slice(0, 100);
      throw formatError(`peel index layers[${i}] names no layer: ${peelAnnotations.layerDigest} is ${shown}`);
    }
    if (blobs.has(layer)) throw formatError(`peel index layers[${i}] is another ${mediaType} for layer ${layer}`);
    blobs.set(layer, descriptor);
  }
  return blobs;
}

function spanSizeOf(table: Descriptor): number | undefined {
  const spanSize = Number(table.annotations?.[peelAnnotations.spanSize]);
  return Number.isSafeInteger(spanSize) && spanSize > 0 ? spanSize : undefined;
}
