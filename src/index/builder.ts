import { StreamIndexer } from '../native/stream-indexer.ts';
import { digestAlgorithm, digestFromSha256 } from '../oci/digest.ts';
import type { Compression } from '../oci/media-type.ts';
import { TarError } from '../tar/errors.ts';
import { type BlobFacts, BuildPass, type Finished } from './build-pass.ts';
import { checkpointWindow, writeCheckpoints } from './checkpoints.ts';
import { detectCompression, peek, sniffSize } from './compression-sniff.ts';
import { IndexError } from './errors.ts';
import { fineSpans } from './fine-spans.ts';
import type { BuildOptions, DecodeBlob, LayerBuild } from './layer-build.ts';
import { SpanColumns, type SpanColumnsInit } from './span-columns.ts';

export const defaultSpanSize = 4 << 20;

/** What the indexer rejects with when the blob is not whole gzip members. */
const indexerDamage = new Set(['ERR_INDEX_INFLATE', 'ERR_INDEX_TRAILING', 'ERR_INDEX_TRUNCATED']);

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
  const decode = options.decoder?.(compression);
  const spanSize = options.spanSize ?? defaultSpanSize;
  const indexer = new StreamIndexer({
    format: compression === 'gzip' && decode === undefined ? 'gzip' : 'stored',
    spanSize,
    dataFd: options.dataFd ?? -1,
    fineSpanSize: compression === 'zstd' || decode !== undefined ? 0 : options.fineSpanSize,
  });
  try {
    const pass = new BuildPass(indexer, options);
    const seen =
      decode !== undefined
        ? await pass.decoded(all, decode)
        : await (compression === 'zstd' ? pass.zstd(all) : pass.direct(all));
    const finished = await pass.finish();
    const blob: BlobFacts = seen ?? finished;
    checkDigests(options, blob, finished);
    const { entries, tar } = pass;
    const found = { compression, decoder: decoderOf(compression, decode), spanSize, entries };
    return {
      ...material(found, blob, finished, tar.finish().endOffset),
      ...fineOf(options.fineSpanSize, compression, blob, finished),
    };
  } catch (error) {
    throw layerError(error, options);
  } finally {
    indexer.close();
  }
}

interface Found extends Pick<LayerBuild, 'compression' | 'entries'> {
  readonly decoder: SpanColumnsInit['decoder'];
  readonly spanSize: number;
}

/** How spans of the layer can be had later: what we did not decode ourselves has no place to begin at but the start. */
function decoderOf(compression: Compression, decode: DecodeBlob | undefined): Found['decoder'] {
  if (compression === 'zstd' || decode !== undefined) return 'sequential';
  return compression === 'gzip' ? 'gzip-checkpoint' : 'stored';
}

function material(
  { compression, decoder, spanSize, entries }: Found,
  blob: BlobFacts,
  finished: Finished,
  tarEnd: number,
): Omit<LayerBuild, 'fine' | 'fineObstacle'> {
  const { streamSize, in: blobStarts, out: streamStarts, bits, windows, spanSha256 } = finished;
  const checkpoints =
    decoder === 'gzip-checkpoint'
      ? writeCheckpoints({ spanSize, in: blobStarts, out: streamStarts, bits, windows })
      : undefined;
  const common = { blobSize: blob.blobSize, streamSize, openEnded: false, spanSize, streamStarts, decoder };
  const columns = (): SpanColumnsInit => {
    if (checkpoints !== undefined) {
      const window = async (i: number) => checkpointWindow(checkpoints, i);
      return { ...common, blobStarts, bits, sha256: spanSha256, window };
    }
    if (decoder === 'stored') return { ...common, blobStarts: streamStarts, sha256: spanSha256 };
    return { ...common, blobStarts: new Float64Array(streamStarts.length) };
  };
  return {
    entries,
    spans: new SpanColumns(columns(), 'index built from the layer'),
    compression,
    blobSize: blob.blobSize,
    blobDigest: digestFromSha256(blob.blobSha256),
    streamSize,
    diffId: digestFromSha256(finished.streamSha256),
    tarEnd,
    checkpoints,
  };
}

function fineOf(
  spanSize: number | undefined,
  compression: Compression,
  { blobSize, frames }: BlobFacts,
  { streamSize, fine: indexed }: Finished,
): Pick<LayerBuild, 'fine' | 'fineObstacle'> {
  if (spanSize === undefined) return { fine: undefined, fineObstacle: undefined };
  const decoder = ({ gzip: 'gzip-checkpoint', zstd: 'zstd-frame', none: 'stored' } as const)[compression];
  return fineSpans({ spanSize, blobSize, streamSize, indexed, frames, decoder });
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
  if (code === 'ERR_TAR_LIMIT') {
    return new IndexError('ERR_INDEX_LIMIT', `${layer} holds too much: ${error.message}`, { cause: error });
  }
  return new IndexError('ERR_INDEX_LAYER', `${layer} is damaged: ${error.message}`, { cause: error });
}
