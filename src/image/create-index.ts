import { setMaxListeners } from 'node:events';
import { buildLayerIndex } from '../index/builder.ts';
import type { LayerBuild } from '../index/layer-build.ts';
import { registryBlobSource } from '../layer/blob-source.ts';
import { blobStream } from '../layer/blob-stream.ts';
import { trimHeap } from '../native/sys.ts';
import type { ProgressSink } from '../observe/progress.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { layerType } from '../oci/media-type.ts';
import type { IndexKind } from '../state/indexes.ts';
import type { ZtocRow } from '../state/ztocs.ts';
import { Semaphore } from '../util/semaphore.ts';
import type { AssembleIndexDeps } from './assemble-index.ts';
import { assembleIndex, keepZtoc } from './assemble-index.ts';
import type { AssemblePeelIndexDeps, KeptPeelTable } from './assemble-peel-index.ts';
import { assemblePeelIndex, keepPeelTable } from './assemble-peel-index.ts';
import type { ChooseImages } from './choose-images.ts';
import { distinctLayers, skippedUnread } from './index-layers.ts';
import type { LayerOutcome, MadeIndexes, PeelOutcome, SociOutcome } from './index-report.ts';
import type { Origin } from './origin.ts';
import type { ResolvedImage } from './resolve.ts';

export interface CreateIndexOptions extends ChooseImages {
  /** Default `both`: one reading of the layers makes them. */
  readonly format?: IndexKind | 'both' | undefined;
  /** Stream bytes per span of a zTOC; default 4 MiB. */
  readonly spanSize?: number | undefined;
  /** Stream bytes per span of a peel index; default 256 KiB. */
  readonly peelSpanSize?: number | undefined;
  /** Smaller blobs are left out; default 10 MiB in a SOCI index, 1 MiB in a peel index. */
  readonly minLayerSize?: number | undefined;
  readonly push?: boolean | undefined;
  readonly onProgress?: ProgressSink | undefined;
}

type CreateIndexDeps = AssembleIndexDeps & AssemblePeelIndexDeps;

/** Undefined for a kind that was not asked for. */
interface LayerRows {
  readonly peel: KeptPeelTable | undefined;
  readonly soci: ZtocRow | undefined;
}

export const defaultPeelSpanSize = 256 << 10;

/** Two cores' worth: one pass keeps a thread of inflating and one of hashing busy. */
const layersAtOnce = 2;

/**
 * Indexes the layers of one image, each read once whatever is made of it, and keeps the indexes on this node, where mounts find them.
 * Errors: IndexError for a damaged layer, LayerError, RegistryError.
 */
export async function createIndex(
  deps: CreateIndexDeps,
  origin: Origin,
  image: ResolvedImage,
  options: CreateIndexOptions,
): Promise<{ readonly indexes: MadeIndexes; readonly layers: readonly LayerOutcome[] }> {
  const slots = new Semaphore(layersAtOnce);
  const distinct = distinctLayers(image.manifest);
  const failing = new AbortController();
  const signal = options.signal === undefined ? failing.signal : AbortSignal.any([options.signal, failing.signal]);
  setMaxListeners(0, signal);
  const rows = await Promise.all(
    distinct.map((descriptor) =>
      slots
        .run(() => indexLayer(deps, origin, image, descriptor, { ...options, signal }), { signal })
        .catch((error: unknown) => {
          failing.abort(error);
          throw error;
        }),
    ),
  );
  const layers = distinct.map(({ digest: layer, size }, i) => {
    const { peel, soci } = rows[i] as LayerRows;
    return { layer, size, peel: peel && peelOutcome(peel), soci: soci && sociOutcome(soci) };
  });
  const indexes = {
    peel: await assemblePeelIndex(deps, image, present(rows.map(({ peel }) => peel))),
    soci: await assembleIndex(deps, image, present(rows.map(({ soci }) => soci))),
  };
  return { indexes, layers };
}

async function indexLayer(
  deps: CreateIndexDeps,
  origin: Origin,
  image: ResolvedImage,
  descriptor: Descriptor,
  options: CreateIndexOptions,
): Promise<LayerRows> {
  const { digest: layer } = descriptor;
  const { format = 'both', minLayerSize } = options;
  const skipped = {
    peel: skippedUnread('peel', descriptor, minLayerSize),
    soci: skippedUnread('soci', descriptor, minLayerSize),
  };
  const makes = {
    peel: format !== 'soci' && skipped.peel === undefined,
    soci: format !== 'peel' && skipped.soci === undefined,
  };
  const fineSpanSize = makes.peel ? (options.peelSpanSize ?? defaultPeelSpanSize) : undefined;
  const build =
    makes.peel || makes.soci ? await readLayer(origin, image, descriptor, { ...options, fineSpanSize }) : undefined;
  let soci: ZtocRow | undefined;
  let peel: KeptPeelTable | undefined;
  if (skipped.soci !== undefined) soci = { layer, ztoc: undefined, skipped: skipped.soci };
  else if (build !== undefined && makes.soci) soci = await keepZtoc(deps, build);
  if (skipped.peel !== undefined) peel = { layer, table: undefined, skipped: skipped.peel };
  else if (build !== undefined && makes.peel) peel = await keepPeelTable(deps.content, build);
  return { peel: format === 'soci' ? undefined : peel, soci: format === 'peel' ? undefined : soci };
}

async function readLayer(
  origin: Origin,
  image: ResolvedImage,
  descriptor: Descriptor,
  options: CreateIndexOptions & { readonly fineSpanSize: number | undefined },
): Promise<LayerBuild> {
  const { digest, size, mediaType } = descriptor;
  const what = `index of layer ${digest.slice(0, 19)}`;
  const source = registryBlobSource(origin.registry, origin.repository, origin.name, descriptor);
  const blob = blobStream(source, size, {
    signal: options.signal,
    onBytes: (done) => options.onProgress?.({ what, done, total: size }),
  });
  const diffId = image.diffIds[image.manifest.layers.findIndex((layer) => layer.digest === digest)];
  const build = await buildLayerIndex(blob, {
    compression: layerType(mediaType)?.compression,
    spanSize: options.spanSize,
    fineSpanSize: options.fineSpanSize,
    blobDigest: digest,
    blobSize: size,
    diffId,
    signal: options.signal,
  });
  // What decoding took and malloc keeps; what is made of it would come on top.
  trimHeap();
  return build;
}

function peelOutcome(row: KeptPeelTable): PeelOutcome {
  if (row.table === undefined)
    return { table: undefined, tableSize: undefined, windows: undefined, windowsSize: undefined, skipped: row.skipped };
  const { table, size: tableSize, windows } = row;
  return { table, tableSize, windows: windows?.digest, windowsSize: windows?.size, skipped: undefined };
}

function sociOutcome(row: ZtocRow): SociOutcome {
  const ztocSize = row.ztoc === undefined ? undefined : row.size;
  return { ztoc: row.ztoc, ztocSize, skipped: row.skipped };
}

function present<T>(rows: readonly (T | undefined)[]): T[] {
  return rows.filter((row) => row !== undefined);
}
