import { createHash } from 'node:crypto';
import { StreamIndexer } from '../native/stream-indexer.ts';
import { digestAlgorithm, digestFromSha256 } from '../oci/digest.ts';
import type { Compression } from '../oci/media-type.ts';
import type { TarEntry } from '../tar/entry.ts';
import { TarError } from '../tar/errors.ts';
import { TarReader } from '../tar/reader.ts';
import { checkpointWindow, writeCheckpoints } from './checkpoints.ts';
import { detectCompression, peek, sniffSize } from './compression-sniff.ts';
import { IndexError } from './errors.ts';
import type { BuildOptions, LayerBuild } from './layer-build.ts';
import { defaultIndexLimits } from './limits.ts';
import { SpanColumns, type SpanColumnsInit } from './span-columns.ts';
import { ZstdSlices } from './zstd-slices.ts';

export const defaultSpanSize = 4 << 20;

/** What the indexer rejects with when the blob is not whole gzip members. */
const indexerDamage = new Set(['ERR_INDEX_INFLATE', 'ERR_INDEX_TRAILING', 'ERR_INDEX_TRUNCATED']);

type Finished = Awaited<ReturnType<StreamIndexer['finish']>>;

/**
 * Indexes a layer in one pass over its blob: one decoding feeds the span table, the tar reader, the digests and, when asked
 * for, the file that keeps the stream. Memory: the index itself and a few MiB.
 *
 * Errors: IndexError ERR_INDEX_LAYER when the blob or its tar is damaged, ERR_INDEX_BLOB_DIGEST, ERR_INDEX_BLOB_SIZE,
 * ERR_INDEX_DIFF_ID when it is not the one that was asked for, ERR_INDEX_LIMIT; the reason of `signal`; what `source`
 * throws; errors of writing to `dataFd`. After an error the contents of `dataFd` are of no use.
 */
export async function buildLayerIndex(
  source: AsyncIterable<Uint8Array>,
  options: BuildOptions = {},
): Promise<LayerBuild> {
  refuseOtherHashes(options);
  const { head, all } = await peek(source, sniffSize);
  const compression = detectCompression(head);
  const spanSize = options.spanSize ?? defaultSpanSize;
  const indexer = new StreamIndexer({
    format: compression === 'gzip' ? 'gzip' : 'stored',
    spanSize,
    dataFd: options.dataFd ?? -1,
  });
  try {
    const pass = new Pass(indexer, options);
    const blob = compression === 'zstd' ? await pass.zstd(all) : await pass.direct(all);
    const finished = await pass.finish();
    checkDigests(options, blob ?? finished, finished);
    const tar = pass.tar.finish();
    return material(compression, spanSize, blob ?? finished, finished, pass.entries, tar.endOffset);
  } catch (error) {
    throw layerError(error, options);
  } finally {
    indexer.close();
  }
}

interface BlobFacts {
  readonly blobSize: number;
  readonly blobSha256: Buffer;
}

/** One run of blob bytes through the indexer and its output through the tar reader. */
class Pass {
  readonly entries: TarEntry[] = [];
  readonly tar = new TarReader({ maxEntries: defaultIndexLimits.entries });
  readonly #indexer: StreamIndexer;
  readonly #options: BuildOptions;
  #blobBytes = 0;
  #streamBytes = 0;

  constructor(indexer: StreamIndexer, options: BuildOptions) {
    this.#indexer = indexer;
    this.#options = options;
  }

  /** The blob as it is. */
  async direct(source: AsyncIterable<Uint8Array>): Promise<undefined> {
    for await (const chunk of source) {
      this.#account(chunk);
      await this.#push(chunk);
    }
  }

  /** The indexer sees the decoded stream, so the blob's own size and digest are counted here. */
  async zstd(source: AsyncIterable<Uint8Array>): Promise<BlobFacts> {
    const hash = createHash('sha256');
    const decoder = new ZstdSlices();
    for await (const chunk of source) {
      this.#account(chunk);
      hash.update(chunk);
      for (const slice of decoder.decode(chunk)) await this.#push(slice);
    }
    decoder.finish();
    return { blobSize: this.#blobBytes, blobSha256: hash.digest() };
  }

  async finish(): Promise<Finished> {
    const finished = await this.#indexer.finish();
    for (const piece of finished.tail) this.#read(piece);
    this.#options.signal?.throwIfAborted();
    return finished;
  }

  #account(chunk: Uint8Array): void {
    this.#options.signal?.throwIfAborted();
    this.#blobBytes += chunk.length;
    const expected = this.#options.blobSize;
    if (expected !== undefined && this.#blobBytes > expected) {
      throw new IndexError('ERR_INDEX_BLOB_SIZE', `layer blob has more than the ${expected} bytes it should have`);
    }
  }

  async #push(bytes: Uint8Array): Promise<void> {
    await this.#indexer.push(bytes, (piece) => this.#read(piece));
    this.#options.signal?.throwIfAborted();
    this.#options.onProgress?.({
      blobBytes: this.#blobBytes,
      streamBytes: this.#streamBytes,
      entries: this.entries.length,
    });
  }

  #read(piece: Uint8Array): void {
    this.#streamBytes += piece.length;
    const limit = this.#options.maxStreamBytes ?? defaultIndexLimits.streamBytes;
    if (this.#streamBytes > limit) {
      throw new IndexError('ERR_INDEX_LIMIT', `layer decodes to more than ${limit} bytes`);
    }
    for (const entry of this.tar.push(piece)) this.entries.push(entry);
  }
}

function material(
  compression: Compression,
  spanSize: number,
  blob: BlobFacts,
  finished: Finished,
  entries: readonly TarEntry[],
  tarEnd: number,
): LayerBuild {
  const { streamSize, in: blobStarts, out: streamStarts, bits, windows, spanSha256 } = finished;
  const checkpoints =
    compression === 'gzip'
      ? writeCheckpoints({ spanSize, in: blobStarts, out: streamStarts, bits, windows })
      : undefined;
  const common = { blobSize: blob.blobSize, streamSize, openEnded: false, spanSize, streamStarts };
  const columns: Record<Compression, () => SpanColumnsInit> = {
    gzip: () => ({
      ...common,
      decoder: 'gzip-checkpoint',
      blobStarts,
      bits,
      sha256: spanSha256,
      window: async (i) => checkpoints && checkpointWindow(checkpoints, i),
    }),
    none: () => ({ ...common, decoder: 'stored', blobStarts: streamStarts, sha256: spanSha256 }),
    zstd: () => ({ ...common, decoder: 'sequential', blobStarts: new Float64Array(streamStarts.length) }),
  };
  return {
    entries,
    spans: new SpanColumns(columns[compression](), 'index built from the layer'),
    compression,
    blobSize: blob.blobSize,
    blobDigest: digestFromSha256(blob.blobSha256),
    streamSize,
    diffId: digestFromSha256(finished.streamSha256),
    tarEnd,
    checkpoints,
  };
}

function checkDigests(options: BuildOptions, blob: BlobFacts, finished: Finished): void {
  if (options.blobSize !== undefined && blob.blobSize !== options.blobSize) {
    throw new IndexError('ERR_INDEX_BLOB_SIZE', `layer blob has ${blob.blobSize} bytes instead of ${options.blobSize}`);
  }
  const blobDigest = digestFromSha256(blob.blobSha256);
  if (options.blobDigest !== undefined && blobDigest !== options.blobDigest) {
    throw new IndexError(
      'ERR_INDEX_BLOB_DIGEST',
      `layer blob has the digest ${blobDigest} instead of ${options.blobDigest}`,
    );
  }
  const diffId = digestFromSha256(finished.streamSha256);
  if (options.diffId !== undefined && diffId !== options.diffId) {
    throw new IndexError(
      'ERR_INDEX_DIFF_ID',
      `layer stream has the diffID ${diffId}, the image config says ${options.diffId}`,
    );
  }
}

function refuseOtherHashes(options: BuildOptions): void {
  for (const digest of [options.blobDigest, options.diffId]) {
    if (digest !== undefined && digestAlgorithm(digest) !== 'sha256') {
      throw new IndexError(
        'ERR_INDEX_UNSUPPORTED',
        `cannot check a layer against ${digest}: only sha256 is implemented`,
      );
    }
  }
}

/** Damage found by the decoder or the tar reader, named for the layer; everything else as it is. */
function layerError(error: unknown, options: BuildOptions): unknown {
  if (!(error instanceof Error) || error instanceof IndexError) return error;
  const code = 'code' in error ? String(error.code) : '';
  if (!(error instanceof TarError) && !indexerDamage.has(code)) return error;
  const layer = options.blobDigest === undefined ? 'layer' : `layer ${options.blobDigest}`;
  return new IndexError('ERR_INDEX_LAYER', `${layer} is damaged: ${error.message}`, { cause: error });
}
