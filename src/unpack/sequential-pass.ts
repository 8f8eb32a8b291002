import { buildLayerIndex } from '../index/builder.ts';
import type { LayerBuild } from '../index/layer-build.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { type Compression, layerType } from '../oci/media-type.ts';
import { Decompressor } from './decompressor.ts';
import { UnpackError } from './errors.ts';
import { passError } from './pass-errors.ts';
import type { PassLimits } from './pass-limits.ts';
import type { StreamSink } from './stream-sink.ts';

export interface SequentialPassOptions {
  /** The blob in order. */
  readonly blob: AsyncIterable<Uint8Array>;
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  /** An empty file that gets the stream. Not closed. */
  readonly dataFd: number;
  readonly sink: StreamSink;
  readonly limits: PassLimits;
  /** Decodes layers of this media type instead of us: an absolute path and arguments. Not asked where the blob turns out to be of another kind. */
  readonly command?: readonly string[] | undefined;
  readonly signal: AbortSignal;
}

/**
 * One pass over a layer's blob as it comes: decodes it, writes the stream to a file, finds its members and checks both digests. Returns what
 * an index of the layer is made of. Memory: that, and a few MiB.
 *
 * Errors: UnpackError ERR_UNPACK_DIGEST, ERR_UNPACK_DIFF_ID, ERR_UNPACK_LAYER, ERR_UNPACK_LIMIT, ERR_UNPACK_DECOMPRESSOR,
 * ERR_UNPACK_UNSUPPORTED, ERR_UNPACK_DISK; what `blob` and `sink` throw; the signal's reason. What was told to the sink is then worth nothing.
 * A blob that was damaged on its way mostly shows as ERR_UNPACK_LAYER, because it stops making sense before it can be hashed.
 */
export async function sequentialPass(options: SequentialPassOptions): Promise<LayerBuild> {
  const { blob, descriptor, diffId, dataFd, sink, limits, command, signal } = options;
  signal.throwIfAborted();
  const type = layerType(descriptor.mediaType);
  if (type === undefined) {
    const message = `layer ${descriptor.digest} has the media type ${descriptor.mediaType}, which is no layer`;
    throw new UnpackError('ERR_UNPACK_UNSUPPORTED', message);
  }
  const decompressor = command === undefined ? undefined : new Decompressor(command, { signal });
  const isItsKind = (found: Compression) => found !== 'none' && found === type.compression;
  try {
    sink.begin(dataFd);
    return await buildLayerIndex(blob, {
      compression: type.compression,
      dataFd,
      blobDigest: descriptor.digest,
      blobSize: descriptor.size,
      diffId,
      maxStreamBytes: limits.maxLayerSize,
      maxRatio: limits.maxRatio,
      maxEntries: limits.maxEntries,
      signal,
      decoder: (found) => (decompressor && isItsKind(found) ? (bytes) => decompressor.run(bytes) : undefined),
      onEntries: (entries) => sink.entries(entries),
      onWritten: (offset) => sink.written(offset),
    });
  } catch (error) {
    signal.throwIfAborted();
    throw passError(error, descriptor);
  } finally {
    await decompressor?.close();
  }
}
