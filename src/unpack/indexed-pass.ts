import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { IndexError } from '../index/errors.ts';
import { defaultIndexLimits } from '../index/limits.ts';
import { LayerError } from '../layer/errors.ts';
import type { Layer } from '../layer/layer.ts';
import type { TarEntry } from '../tar/entry.ts';
import { TarError } from '../tar/errors.ts';
import { TarReader } from '../tar/reader.ts';
import { Deferred } from '../util/deferred.ts';
import { untilAborted } from '../util/until-aborted.ts';
import { UnpackError } from './errors.ts';
import { passError } from './pass-errors.ts';
import type { PassLimits } from './pass-limits.ts';
import type { StreamSink } from './stream-sink.ts';

export interface IndexedPassOptions {
  /** Opened by an index. Stays open. */
  readonly layer: Layer;
  readonly sink: StreamSink;
  readonly limits: PassLimits;
  readonly signal: AbortSignal;
}

const freeOfRatio = 64 << 20;
/** Members told at once: some ms of work for who is told. */
const batch = 2048;
/** Read at once where headers are: small files are passed over more cheaply than seeked over. */
const headBytes = 64 << 10;

/**
 * Brings all of a layer that has an index into its block cache, several spans at a time and decoded in parallel, and tells the sink of it in
 * order. Members are those of the index if it was made here, else those of the stream. When it resolves, the layer is complete and its diffID is checked.
 *
 * Errors: UnpackError ERR_UNPACK_DIFF_ID, ERR_UNPACK_DIGEST, ERR_UNPACK_FETCH, ERR_UNPACK_DISK, ERR_UNPACK_LAYER, ERR_UNPACK_LIMIT,
 * ERR_UNPACK_UNSUPPORTED;
 * LayerError ERR_LAYER_INDEX when the index cannot be read or is not of this blob: a sequential pass may well succeed; what the sink throws;
 * the signal's reason.
 */
export async function indexedPass(options: IndexedPassOptions): Promise<void> {
  const { layer, sink, limits, signal } = options;
  signal.throwIfAborted();
  checkSize(layer, limits);
  const ending = new AbortController();
  const stop = () => ending.abort(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  let unpin = (): void => {};
  try {
    // The file is read from here and by the sink.
    unpin = await layer.pin();
    await using data = await open(layer.paths.data, 'r');
    sink.begin(data.fd);
    const reached = new Mark();
    const filled = layer.fillCache({ signal: ending.signal, onProgress: (offset) => reached.set(offset) });
    const told =
      layer.row.indexFormat === 'node'
        ? tell(options, reached, ending.signal)
        : tellStream(options, data, reached, ending.signal);
    try {
      await Promise.all([filled, told]);
    } finally {
      ending.abort();
      await Promise.allSettled([filled, told]);
    }
  } catch (error) {
    signal.throwIfAborted();
    throw passError(tarError(error, layer), layer.descriptor);
  } finally {
    signal.removeEventListener('abort', stop);
    unpin();
  }
}

/** Index and stream are checked against each other when all is here; what the index says of itself is bounded before. */
function checkSize({ descriptor, spans }: Layer, { maxLayerSize, maxRatio }: PassLimits): void {
  const { streamSize, blobSize } = spans;
  const allowed = Math.min(maxLayerSize, Math.max(freeOfRatio, maxRatio * blobSize));
  if (streamSize <= allowed) return;
  const message = `layer ${descriptor.digest} of ${blobSize} bytes unpacks to ${streamSize}, more than the ${allowed} that are allowed`;
  throw new UnpackError('ERR_UNPACK_LIMIT', message);
}

/** How far the stream is here. */
class Mark {
  #offset = 0;
  #moved = new Deferred<void>();

  get offset(): number {
    return this.#offset;
  }

  get moved(): Promise<void> {
    return this.#moved.promise;
  }

  set(offset: number): void {
    this.#offset = offset;
    this.#moved.resolve();
    this.#moved = new Deferred();
  }
}

/**
 * The diffID says nothing of the members that an index of somebody else names: those of the stream itself count, for which all but the data
 * of files is read.
 */
async function tellStream(
  { layer, sink, limits }: IndexedPassOptions,
  data: FileHandle,
  reached: Mark,
  signal: AbortSignal,
): Promise<void> {
  const tar = new TarReader({ maxEntries: limits.maxEntries ?? defaultIndexLimits.entries });
  const buffer = Buffer.allocUnsafe(headBytes);
  for (let at = 0; ; ) {
    const { offset, moved } = reached;
    sink.written(offset);
    while (at < offset) {
      const passed = Math.min(tar.toSkip, offset - at);
      if (passed > 0) {
        tar.advance(passed);
        at += passed;
        continue;
      }
      const { bytesRead } = await data.read(buffer, 0, Math.min(buffer.length, offset - at), at);
      signal.throwIfAborted();
      if (bytesRead === 0) throw new UnpackError('ERR_UNPACK_DISK', `${layer.paths.data} ends at byte ${at}`);
      const entries = tar.push(buffer.subarray(0, bytesRead));
      if (entries.length > 0) sink.entries(entries);
      at += bytesRead;
    }
    if (offset >= layer.streamSize) break;
    await untilAborted(moved, signal);
  }
  tar.finish();
}

/** A member is told when its header is here, as it would be without an index, so that who is told never has much more to do than is here. */
async function tell({ layer, sink, limits }: IndexedPassOptions, reached: Mark, signal: AbortSignal): Promise<void> {
  const entries = readEntries(layer);
  const most = limits.maxEntries ?? defaultIndexLimits.entries;
  if (entries.length > most) {
    const message = `layer ${layer.descriptor.digest} has ${entries.length} members, more than ${most}`;
    throw new UnpackError('ERR_UNPACK_LIMIT', message);
  }
  const { streamSize } = layer;
  for (let at = 0; ; ) {
    const { offset, moved } = reached;
    sink.written(offset);
    for (let end = at; at < entries.length; at = end) {
      const isHere = ({ headerOffset }: TarEntry) => headerOffset < offset || offset >= streamSize;
      while (end < entries.length && end < at + batch && isHere(entries[end] as TarEntry)) end += 1;
      if (end === at) break;
      sink.entries(entries.slice(at, end));
      await turn();
      signal.throwIfAborted();
    }
    if (offset >= streamSize) return;
    await untilAborted(moved, signal);
  }
}

function tarError(error: unknown, { descriptor }: Layer): unknown {
  if (!(error instanceof TarError)) return error;
  const code = error.code === 'ERR_TAR_LIMIT' ? 'ERR_UNPACK_LIMIT' : 'ERR_UNPACK_LAYER';
  return new UnpackError(code, `layer ${descriptor.digest} is damaged: ${error.message}`, { cause: error });
}

function readEntries(layer: Layer): ReturnType<Layer['entries']> {
  try {
    return layer.entries();
  } catch (error) {
    if (!(error instanceof IndexError)) throw error;
    throw new LayerError('ERR_LAYER_INDEX', error.message, { cause: error });
  }
}
