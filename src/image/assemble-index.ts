// From layers that were read as a whole to the SOCI index of their image, kept on this node where mounts find it.
import { blobOf } from '../index/blob.ts';
import type { LayerBuild } from '../index/layer-build.ts';
import { sociIndexManifest } from '../index/soci-index-writer.ts';
import { ztocMediaType } from '../index/soci-names.ts';
import { ztocFromBuild } from '../index/ztoc-from-build.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { State } from '../state/state.ts';
import type { ZtocRow } from '../state/ztocs.ts';
import type { ContentFetcher } from './content.ts';
import { distinctLayers } from './index-layers.ts';
import type { ResolvedImage } from './resolve.ts';

export interface AssembleIndexDeps {
  readonly content: ContentFetcher;
  readonly state: Pick<State, 'indexes' | 'ztocs'>;
}

export const buildTool = 'peel 0.1';
export const madeHere = 'made on this node';

/** Makes the zTOC of a layer that was just read and keeps it, or the reason why there is none. Errors: those of the disk. */
export async function keepZtoc({ content, state }: AssembleIndexDeps, build: LayerBuild): Promise<ZtocRow> {
  const layer = build.blobDigest;
  const { ztoc: bytes, skipped } = ztocFromBuild(build, { buildTool });
  if (bytes === undefined) {
    const none = { layer, ztoc: undefined, skipped };
    state.ztocs.put(none);
    return none;
  }
  const { digest, size } = await keepBlob(content, ztocMediaType, bytes);
  const row = { layer, ztoc: digest, size, spanSize: build.spans.spanSize, skipped: undefined };
  state.ztocs.put(row);
  return row;
}

/** Keeps what was made here under its digest. Errors: those of the disk. */
export async function keepBlob(content: ContentFetcher, mediaType: string, bytes: Uint8Array): Promise<Descriptor> {
  return (await content.keep(blobOf(mediaType, bytes))).descriptor;
}

/** Joins the zTOCs of an image, in the order of its layers. Undefined when there is none to join. Errors: those of the disk. */
export async function assembleIndex(
  { content, state }: AssembleIndexDeps,
  image: ResolvedImage,
  rows: readonly ZtocRow[],
): Promise<Digest | undefined> {
  const byLayer = new Map(rows.map((row) => [row.layer, row]));
  const ztocs = distinctLayers(image.manifest).flatMap(({ digest, mediaType }) => {
    const row = byLayer.get(digest);
    if (row?.ztoc === undefined) return [];
    const { ztoc, size, spanSize } = row;
    return { layer: { digest, mediaType }, ztoc: { digest: ztoc, size }, spanSize };
  });
  if (ztocs.length === 0) return undefined;
  const { mediaType, digest, size } = image.descriptor;
  const { manifest, config } = sociIndexManifest({ subject: { mediaType, digest, size }, buildTool, ztocs });
  await content.keep(config);
  await content.keep(manifest);
  const index = manifest.descriptor.digest;
  state.indexes.put({ image: digest, kind: 'soci', digest: index, format: 'soci-v1', source: madeHere });
  return index;
}
