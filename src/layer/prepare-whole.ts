// The whole-layer way, for layers without a usable index: one pass over the blob fills the block cache and makes an index.
import { mkdir, open, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { buildLayerIndex } from '../index/builder.ts';
import type { LayerBuild } from '../index/layer-build.ts';
import { encodeNodeIndex } from '../index/node-index-writer.ts';
import type { Logger } from '../observe/log.ts';
import { layerType } from '../oci/media-type.ts';
import type { Semaphore } from '../util/semaphore.ts';
import { writeWhole } from '../util/write-whole.ts';
import { adoptData } from './adopt-data.ts';
import { blobStream } from './blob-stream.ts';
import { LayerError, errorCode, errorMessage } from './errors.ts';
import type { LayerPaths } from './layer-paths.ts';
import type { OpenLayerRequest } from './layer-store.ts';
import { acquireAll } from './permits.ts';

export interface PrepareWholeOptions {
  readonly slots: readonly Semaphore[];
  readonly log: Logger;
  /** Why the layer is not lazy. */
  readonly reason: string;
}

/**
 * Downloads the layer; when this returns it is complete. What a crash leaves is a `data.tmp` that the next one overwrites: the
 * index file, which makes the layer count, comes last. The caller holds the build lock.
 * Errors: ERR_LAYER_DIGEST when blob or stream are not the promised ones, ERR_LAYER_FETCH, ERR_LAYER_SHORT,
 * ERR_LAYER_UNSUPPORTED; IndexError for a damaged layer.
 */
export async function prepareWhole(
  request: OpenLayerRequest,
  paths: LayerPaths,
  options: PrepareWholeOptions,
): Promise<void> {
  await mkdir(paths.dir, { recursive: true, mode: 0o700 });
  const temporary = paths.building;
  const permits = await acquireAll(options.slots, { signal: request.signal });
  const started = performance.now();
  let data: FileHandle | undefined;
  try {
    data = await open(temporary, 'w+', 0o600);
    const build = await downloadWhole(request, data.fd);
    permits.release();
    await commit(request, paths, temporary, build, options.reason);
    const ms = Math.round(performance.now() - started);
    options.log.info(
      { layer: request.descriptor.digest, bytes: build.blobSize, ms, reason: options.reason },
      'layer downloaded whole',
    );
  } catch (error) {
    throw buildError(error, request);
  } finally {
    permits.release();
    await rm(temporary, { force: true });
    await data?.close();
  }
}

export type WholeRequest = Pick<OpenLayerRequest, 'descriptor' | 'diffId' | 'source' | 'signal' | 'onProgress'>;

/** The stream into a file, checked against blob digest and diffID. Errors: IndexError, those of the source, errno codes. */
export async function downloadWhole(request: WholeRequest, dataFd: number): Promise<LayerBuild> {
  const { descriptor, diffId, source, signal, onProgress } = request;
  const what = `layer ${descriptor.digest.slice(0, 19)}`;
  const total = descriptor.size;
  const blob = blobStream(source, descriptor.size, { signal, onBytes: (done) => onProgress?.({ what, done, total }) });
  const compression = layerType(descriptor.mediaType)?.compression;
  return await buildLayerIndex(blob, {
    compression,
    dataFd,
    blobDigest: descriptor.digest,
    blobSize: descriptor.size,
    diffId,
    signal,
  });
}

async function commit(
  request: OpenLayerRequest,
  paths: LayerPaths,
  temporary: string,
  build: LayerBuild,
  reason: string,
): Promise<void> {
  const provenance = { format: 'node', source: reason, blobDigest: build.blobDigest, diffId: build.diffId } as const;
  const index = await encodeNodeIndex(build, provenance, { signal: request.signal });
  const { spans } = build;
  await adoptData(paths, { path: temporary, spans, fingerprint: index.fingerprint }, { signal: request.signal });
  await writeWhole(paths.index, index.pieces);
}

function buildError(error: unknown, request: OpenLayerRequest): unknown {
  const code = errorCode(error);
  const layer = `layer ${request.descriptor.digest} of ${request.source.name}`;
  if (code === 'ERR_INDEX_BLOB_DIGEST' || code === 'ERR_INDEX_BLOB_SIZE' || code === 'ERR_INDEX_DIFF_ID') {
    return new LayerError('ERR_LAYER_DIGEST', `${layer} is not what its image says: ${errorMessage(error)}`, {
      cause: error,
    });
  }
  if (code === 'ERR_INDEX_UNSUPPORTED')
    return new LayerError('ERR_LAYER_UNSUPPORTED', `${layer}: ${errorMessage(error)}`, { cause: error });
  return error;
}
