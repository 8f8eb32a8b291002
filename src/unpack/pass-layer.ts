// One layer from wherever its bytes are to whoever wants its stream: through the index that the node has of it, or by decoding it from the
// first byte to the last.
import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { LayerBuild } from '../index/layer-build.ts';
import { otherBlob } from '../layer/blob-source.ts';
import type { BlobSource } from '../layer/blob-source.ts';
import { errorCode, errorMessage } from '../layer/errors.ts';
import type { LayerStore } from '../layer/layer-store.ts';
import type { Layer } from '../layer/layer.ts';
import type { Logger } from '../observe/log.ts';
import { digestFromSha256 } from '../oci/digest.ts';
import { layerType } from '../oci/media-type.ts';
import type { LayerTable } from '../state/layers.ts';
import { Semaphore } from '../util/semaphore.ts';
import type { BlobFeed } from './blob-feed.ts';
import { UnpackError } from './errors.ts';
import { indexedPass } from './indexed-pass.ts';
import { sequentialPass } from './sequential-pass.ts';
import type { StreamSink } from './stream-sink.ts';
import { IndexUnusable } from './unpack-failure.ts';
import type { Attempt } from './unpack-failure.ts';
import type { UnpackSettings } from './unpack-settings.ts';
import type { LayerToUnpack } from './unpacker.ts';

export interface PassParts {
  readonly store: LayerStore;
  readonly layers: LayerTable;
  readonly settings: UnpackSettings;
  readonly log: Logger;
}

export interface PassRequest extends Pick<LayerToUnpack, 'descriptor' | 'diffId' | 'source'> {
  /** Of the job; the stream goes to the file `data` in it when no index is at hand. */
  readonly folder: string;
  /** Asked once, when the blob is needed. */
  readonly blob: () => Promise<BlobFeed>;
  readonly index: Attempt['index'];
  readonly sink: StreamSink;
  /** Runs when the stream is whole and verified, while its file is still open. */
  readonly whole: (build: LayerBuild | undefined) => Promise<void>;
  readonly signal: AbortSignal;
}

const spanRequests = 8;

/**
 * Blob and stream are verified before `whole` is called. Errors: UnpackError; IndexUnusable, with the index; those of `sink` and `whole`; the
 * signal's reason.
 */
export async function passLayer(parts: PassParts, request: PassRequest): Promise<void> {
  const layer = request.index === 'use' ? await openKnown(parts, request) : undefined;
  if (layer === undefined) {
    await decode(parts, request);
    return;
  }
  try {
    await passKnown(parts, request, layer);
    await request.whole(undefined);
  } finally {
    await layer.close();
  }
}

async function passKnown(
  { settings }: PassParts,
  { sink, signal, descriptor, blob }: PassRequest,
  layer: Layer,
): Promise<void> {
  const ending = new AbortController();
  const both = AbortSignal.any([signal, ending.signal]);
  setMaxListeners(0, both);
  const work = [
    indexedPass({ layer, sink, limits: settings, signal: both }),
    ...(layer.complete ? [] : [checkBlob(blob, descriptor, both)]),
  ];
  try {
    await Promise.all(work);
  } catch (error) {
    ending.abort(error);
    await Promise.allSettled(work);
    signal.throwIfAborted();
    throw isOfIndex(error, layer) ? new IndexUnusable(descriptor.digest, error) : error;
  }
}

/** What registry and disk refuse has nothing to do with it, nor what an index says that was made here, of the layer itself. */
function isOfIndex(error: unknown, { row }: Layer): boolean {
  const code = errorCode(error) ?? '';
  if (code === 'ERR_UNPACK_FETCH' || code === 'ERR_UNPACK_DISK' || code === 'ERR_UNPACK_BLOB_MISSING') return false;
  return row.indexFormat !== 'node' || (code !== 'ERR_UNPACK_ENTRY' && code !== 'ERR_UNPACK_BELOW');
}

async function decode(
  { settings }: PassParts,
  { descriptor, diffId, folder, blob, sink, whole, signal }: PassRequest,
): Promise<void> {
  // Of an earlier stream, of which nothing is left either.
  await rm(join(folder, 'index'), { force: true });
  const data = await open(join(folder, 'data'), 'w+', 0o600);
  try {
    const feed = await blob();
    const build = await sequentialPass({
      blob: feed.stream({ signal }),
      descriptor,
      diffId,
      dataFd: data.fd,
      sink,
      limits: settings,
      command: commandOf(settings, descriptor.mediaType),
      signal,
    });
    await whole(build);
  } finally {
    await data.close();
  }
}

function commandOf({ decompressors }: UnpackSettings, mediaType: string): readonly string[] | undefined {
  const compression = layerType(mediaType)?.compression;
  return compression === 'gzip' || compression === 'zstd' ? decompressors[compression] : undefined;
}

/** The layer where the node has an index of it that can be used. */
async function openKnown(
  { store, layers, log }: PassParts,
  { descriptor, diffId, source: registry, blob, signal }: PassRequest,
): Promise<Layer | undefined> {
  const row = layers.get(descriptor.digest);
  if (row === undefined || row.suspect !== undefined || row.diffId !== diffId) return undefined;
  const source: BlobSource = {
    name: `${descriptor.digest}, as it is downloaded`,
    readRange: async (start, end, options) => (await blob()).source.readRange(start, end, options),
    readAll: async (options) => (await blob()).source.readAll(options),
    // The windows of its index, which nobody on this machine has but the node itself.
    blob: (other, from) => otherBlob(registry, other, from),
  };
  try {
    return await store.openIfReady({
      descriptor,
      diffId,
      source,
      findIndex: async () => ({ index: undefined, reason: 'not asked for' }),
      slots: new Semaphore(spanRequests),
      signal,
      onWarning: (warning) => log.warn({ layer: descriptor.digest }, warning),
    });
  } catch (error) {
    if (!/^ERR_(INDEX_|LAYER_INDEX$)/.test(errorCode(error) ?? '')) throw error;
    log.warn({ layer: descriptor.digest, error: errorMessage(error) }, 'layer is unpacked without its index');
    return undefined;
  }
}

/** Spans are checked by an index that may lie about them; the whole is checked by what the image says. */
async function checkBlob(
  blob: PassRequest['blob'],
  { digest, size }: PassRequest['descriptor'],
  signal: AbortSignal,
): Promise<void> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const piece of (await blob()).stream({ signal })) {
    bytes += piece.length;
    hash.update(piece);
  }
  const found = digestFromSha256(hash.digest());
  if (found === digest && bytes === size) return;
  throw new UnpackError('ERR_UNPACK_DIGEST', `layer ${digest} of ${size} bytes came as ${found} of ${bytes} bytes`);
}
