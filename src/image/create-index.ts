import { setMaxListeners } from 'node:events';
import { buildLayerIndex } from '../index/builder.ts';
import { registryBlobSource } from '../layer/blob-source.ts';
import { blobStream } from '../layer/blob-stream.ts';
import { trimHeap } from '../native/sys.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { layerType } from '../oci/media-type.ts';
import type { ZtocRow } from '../state/ztocs.ts';
import { Semaphore } from '../util/semaphore.ts';
import { assembleIndex, distinctLayers, keepZtoc, skippedUnread } from './assemble-index.ts';
import type { CreateIndexOptions, IndexServiceDeps } from './index-service.ts';
import type { Origin } from './origin.ts';
import type { ResolvedImage } from './resolve.ts';

/** What became of one layer: a zTOC, or the reason why not. */
export interface LayerOutcome {
  readonly layer: Digest;
  /** Bytes of the blob. */
  readonly size: number;
  readonly ztoc: Digest | undefined;
  /** Bytes of the zTOC. */
  readonly ztocSize: number | undefined;
  readonly skipped: string | undefined;
}

/** Two cores' worth: one pass keeps a thread of inflating and one of hashing busy. */
const layersAtOnce = 2;

/**
 * Indexes the layers of one image and keeps the index on this node, where mounts find it.
 * Errors: IndexError for a damaged layer, LayerError, RegistryError.
 */
export async function createIndex(
  deps: IndexServiceDeps,
  origin: Origin,
  image: ResolvedImage,
  options: CreateIndexOptions,
): Promise<{ readonly index: Digest | undefined; readonly layers: readonly LayerOutcome[] }> {
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
    const row = rows[i];
    const ztocSize = row?.ztoc === undefined ? undefined : row.size;
    return { layer, size, ztoc: row?.ztoc, ztocSize, skipped: row?.skipped };
  });
  return { index: await assembleIndex(deps, image, rows), layers };
}

async function indexLayer(
  deps: IndexServiceDeps,
  origin: Origin,
  image: ResolvedImage,
  descriptor: Descriptor,
  options: CreateIndexOptions,
): Promise<ZtocRow> {
  const { digest, size, mediaType } = descriptor;
  const skipped = skippedUnread(descriptor, options.minLayerSize);
  if (skipped !== undefined) return { layer: digest, ztoc: undefined, skipped };
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
    blobDigest: digest,
    blobSize: size,
    diffId,
    signal: options.signal,
  });
  // What decoding took and malloc keeps; the zTOC would come on top of it.
  trimHeap();
  return await keepZtoc(deps, build);
}
