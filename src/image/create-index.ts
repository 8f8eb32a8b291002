import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { buildLayerIndex } from '../index/builder.ts';
import { createSociIndex } from '../index/soci-index-writer.ts';
import type { SociZtocInit } from '../index/soci-index-writer.ts';
import { ztocFromBuild } from '../index/ztoc-from-build.ts';
import { registryBlobSource } from '../layer/blob-source.ts';
import { blobStream } from '../layer/blob-stream.ts';
import { trimHeap } from '../native/sys.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { digestFromSha256 } from '../oci/digest.ts';
import { layerType } from '../oci/media-type.ts';
import { Semaphore } from '../util/semaphore.ts';
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

export const defaultMinLayerSize = 10 << 20;
export const defaultSpanSize = 4 << 20;
export const buildTool = 'peel 0.1';
/** Two cores' worth: one pass keeps a thread of inflating and one of hashing busy. */
const layersAtOnce = 2;

type Built = LayerOutcome & { readonly init: SociZtocInit | undefined };

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
  const distinct = image.manifest.layers.filter(
    (layer, i, all) => all.findIndex(({ digest }) => digest === layer.digest) === i,
  );
  const failing = new AbortController();
  const signal = options.signal === undefined ? failing.signal : AbortSignal.any([options.signal, failing.signal]);
  setMaxListeners(0, signal);
  const built = await Promise.all(
    distinct.map((descriptor) =>
      slots
        .run(() => buildLayer(origin, image, descriptor, { ...options, signal }), { signal })
        .catch((error: unknown) => {
          failing.abort(error);
          throw error;
        }),
    ),
  );
  const ztocs = built.flatMap(({ init }) => init ?? []);
  const layers = built.map(({ init: _init, ...outcome }) => outcome);
  if (ztocs.length === 0) return { index: undefined, layers };
  const { mediaType, digest, size } = image.descriptor;
  const files = createSociIndex({ subject: { mediaType, digest, size }, buildTool, ztocs });
  for (const blob of files.blobs) await deps.content.keep(blob);
  await deps.content.keep(files.manifest);
  const index = files.manifest.descriptor.digest;
  deps.state.indexes.put({ image: digest, digest: index, format: 'soci-v1', source: 'made on this node' });
  return { index, layers };
}

async function buildLayer(
  origin: Origin,
  image: ResolvedImage,
  descriptor: Descriptor,
  options: CreateIndexOptions,
): Promise<Built> {
  const { digest, size, mediaType } = descriptor;
  const skip = (skipped: string): Built => ({
    layer: digest,
    size,
    ztoc: undefined,
    ztocSize: undefined,
    skipped,
    init: undefined,
  });
  const minimum = options.minLayerSize ?? defaultMinLayerSize;
  if (size < minimum) return skip(`smaller than ${minimum} bytes`);
  const compression = layerType(mediaType)?.compression;
  if (compression === 'zstd') return skip('a zTOC cannot describe zstd layers');
  const spanSize = options.spanSize ?? defaultSpanSize;
  const what = `index of layer ${digest.slice(0, 19)}`;
  const source = registryBlobSource(origin.registry, origin.repository, origin.name, descriptor);
  const blob = blobStream(source, size, {
    signal: options.signal,
    onBytes: (done) => options.onProgress?.({ what, done, total: size }),
  });
  const diffId = image.diffIds[image.manifest.layers.findIndex((layer) => layer.digest === digest)];
  const build = await buildLayerIndex(blob, {
    compression,
    spanSize,
    blobDigest: digest,
    blobSize: size,
    diffId,
    signal: options.signal,
  });
  // What decoding took and malloc keeps; the zTOC would come on top of it.
  trimHeap();
  const result = ztocFromBuild(build, { buildTool });
  if (result.ztoc === undefined) return skip(result.skipped);
  const { ztoc } = result;
  const ztocDigest = digestFromSha256(createHash('sha256').update(ztoc).digest());
  return {
    layer: digest,
    size,
    ztoc: ztocDigest,
    ztocSize: ztoc.length,
    skipped: undefined,
    init: { layer: { digest, mediaType }, ztoc, spanSize },
  };
}
