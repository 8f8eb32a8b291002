// From layers that were read as a whole to the peel index of their image, kept on this node where mounts find it.
import type { LayerBuild } from '../index/layer-build.ts';
import { peelIndexManifest } from '../index/peel-index-writer.ts';
import { peelTableType, peelWindowsType } from '../index/peel-names.ts';
import type { Digest } from '../oci/digest.ts';
import type { State } from '../state/state.ts';
import { buildTool, keepBlob, madeHere } from './assemble-index.ts';
import type { ContentFetcher } from './content.ts';
import { distinctLayers } from './index-layers.ts';
import { peelFromBuild } from './peel-from-build.ts';
import type { ResolvedImage } from './resolve.ts';

export interface AssemblePeelIndexDeps {
  readonly content: ContentFetcher;
  readonly state: Pick<State, 'indexes'>;
}

/** What a peel index can say of one layer. */
export type KeptPeelTable = { readonly layer: Digest } & (
  | {
      readonly table: Digest;
      /** Bytes of the table. */
      readonly size: number;
      /** Undefined for a layer that needs no windows. */
      readonly windows: { readonly digest: Digest; readonly size: number } | undefined;
      /** Bytes of stream per span that were asked for. */
      readonly spanSize: number;
      readonly skipped: undefined;
    }
  | { readonly table: undefined /** Why none can describe the layer. */; readonly skipped: string }
);

/**
 * Makes the table and the windows of a layer that was just read with fine spans and keeps them, or the reason why there are none.
 * Errors: those of the disk.
 */
export async function keepPeelTable(content: ContentFetcher, build: LayerBuild): Promise<KeptPeelTable> {
  const layer = build.blobDigest;
  const made = peelFromBuild(build);
  if (made.table === undefined) {
    return { layer, table: undefined, skipped: made.skipped };
  }
  const windows = made.windows === undefined ? undefined : await keepBlob(content, peelWindowsType, made.windows);
  const { digest: table, size } = await keepBlob(content, peelTableType, made.table);
  return { layer, table, size, windows, spanSize: made.spanSize, skipped: undefined };
}

/** Joins the tables of an image, in the order of its layers. Undefined when there is none to join. Errors: those of the disk. */
export async function assemblePeelIndex(
  { content, state }: AssemblePeelIndexDeps,
  image: ResolvedImage,
  rows: readonly KeptPeelTable[],
): Promise<Digest | undefined> {
  const byLayer = new Map(rows.map((row) => [row.layer, row]));
  const layers = distinctLayers(image.manifest).flatMap(({ digest }) => {
    const row = byLayer.get(digest);
    if (row?.table === undefined) return [];
    const { table, size, windows, spanSize } = row;
    return { layer: { digest }, spanSize, table: { digest: table, size }, windows };
  });
  if (layers.length === 0) return undefined;
  const { mediaType, digest, size } = image.descriptor;
  const { manifest, config } = peelIndexManifest({ subject: { mediaType, digest, size }, buildTool, layers });
  await content.keep(config);
  await content.keep(manifest);
  const index = manifest.descriptor.digest;
  state.indexes.put({ image: digest, kind: 'peel', digest: index, format: 'peel', source: madeHere });
  return index;
}
