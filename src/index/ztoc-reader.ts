import type { TarEntry } from '../tar/entry.ts';
import { readCheckpoints } from './checkpoints.ts';
import { formatError, IndexError, limitError } from './errors.ts';
import { FlatBufferReader, type FlatTable } from './flatbuffer-reader.ts';
import type { LayerIndex } from './layer-index.ts';
import { defaultIndexLimits, type IndexLimits } from './limits.ts';
import { SpanColumns } from './span-columns.ts';
import { readTarZinfo, storedSpanStarts } from './tar-zinfo.ts';
import { readZtocEntries } from './ztoc-entries.ts';
import { compressionSlots, ztocGzip, ztocSlots, ztocUncompressed } from './ztoc-schema.ts';

/** A SOCI zTOC 0.9 as a layer index. Its windows are views of the bytes it was read from. */
export interface Ztoc extends LayerIndex {
  readonly version: string;
  readonly buildTool: string;
  readonly compression: 'gzip' | 'none';
  /** Bytes of the layer blob. */
  readonly compressedSize: number;
  /** Bytes of the layer stream as stated: trailing padding of the tar may be missing. */
  readonly uncompressedSize: number;
  readonly entries: readonly TarEntry[];
  readonly spans: SpanColumns;
}

export interface ReadZtocOptions {
  /** Bytes of the layer blob that the zTOC is for, from its descriptor. */
  readonly blobSize?: number | undefined;
  readonly limits?: IndexLimits | undefined;
}

/**
 * Reads and verifies the zTOC in `bytes`, which are kept.
 * Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT, ERR_INDEX_UNSUPPORTED (sparse file, unknown compression),
 * ERR_INDEX_MISMATCH when it is for a blob of another size.
 */
export function readZtoc(bytes: Uint8Array, options: ReadZtocOptions = {}): Ztoc {
  const limits = options.limits ?? defaultIndexLimits;
  if (bytes.length > limits.blobBytes) throw limitError('size of zTOC', bytes.length, limits.blobBytes);
  const root = new FlatBufferReader(bytes, 'zTOC').root();
  const compressedSize = root.int64(ztocSlots.compressedSize, 'compressed_archive_size');
  const uncompressedSize = root.int64(ztocSlots.uncompressedSize, 'uncompressed_archive_size');
  if (compressedSize < 0 || uncompressedSize < 0) {
    throw formatError(`zTOC states sizes ${compressedSize} and ${uncompressedSize}`);
  }
  if (options.blobSize !== undefined && options.blobSize !== compressedSize) {
    throw new IndexError(
      'ERR_INDEX_MISMATCH',
      `zTOC is for a layer blob of ${compressedSize} bytes, not of ${options.blobSize}`,
    );
  }
  const toc = root.table(ztocSlots.toc, 'TOC');
  const info = root.table(ztocSlots.compressionInfo, 'compression info');
  if (toc === undefined || info === undefined) throw formatError('zTOC has no TOC or no compression info');
  const compression = readAlgorithm(info);
  const sizes = { compressedSize, uncompressedSize };
  const spans = compression === 'gzip' ? gzipSpans(info, sizes, limits) : storedSpans(info, sizes, limits);
  return {
    version: readText(root, ztocSlots.version, 'version'),
    buildTool: readText(root, ztocSlots.buildTool, 'build tool'),
    compression,
    compressedSize,
    uncompressedSize,
    entries: readZtocEntries(toc, spans.streamSize, bytes.length, limits),
    spans,
  };
}

interface Sizes {
  readonly compressedSize: number;
  readonly uncompressedSize: number;
}

function gzipSpans(info: FlatTable, sizes: Sizes, limits: IndexLimits): SpanColumns {
  const checkpoints = readCheckpoints(info.bytes(compressionSlots.checkpoints, 'checkpoints'), limits);
  const count = checkpoints.in.length;
  return new SpanColumns(
    {
      decoder: 'gzip-checkpoint',
      blobSize: sizes.compressedSize,
      // The stated size stops where a tar reader does, checkpoints go on through whatever padding follows.
      streamSize: Math.max(sizes.uncompressedSize, checkpoints.out[count - 1] as number),
      openEnded: true,
      spanSize: checkpoints.spanSize,
      streamStarts: checkpoints.out,
      blobStarts: checkpoints.in,
      bits: checkpoints.bits,
      sha256: readSpanDigests(info, count),
      window: async (index) => checkpoints.window(index),
    },
    'zTOC',
    limits,
  );
}

function storedSpans(info: FlatTable, sizes: Sizes, limits: IndexLimits): SpanColumns {
  const zinfo = readTarZinfo(info.bytes(compressionSlots.checkpoints, 'checkpoints'), limits);
  if (zinfo.size !== sizes.compressedSize || sizes.uncompressedSize > zinfo.size) {
    throw formatError(
      `zTOC of an uncompressed layer states ${zinfo.size}, ${sizes.compressedSize} and ${sizes.uncompressedSize} bytes`,
    );
  }
  const starts = storedSpanStarts(zinfo);
  return new SpanColumns(
    {
      decoder: 'stored',
      blobSize: zinfo.size,
      streamSize: zinfo.size,
      openEnded: false,
      spanSize: zinfo.spanSize,
      streamStarts: starts,
      blobStarts: starts,
      sha256: readSpanDigests(info, starts.length),
    },
    'zTOC',
    limits,
  );
}

function readSpanDigests(info: FlatTable, count: number): Uint8Array {
  const stated = info.vectorLength(compressionSlots.spanDigests, 'span digests');
  const maxSpanId = info.int32(compressionSlots.maxSpanId);
  if (stated !== count || maxSpanId !== count - 1) {
    throw formatError(`zTOC has ${count} checkpoints but ${stated} span digests and max_span_id ${maxSpanId}`);
  }
  const digests = new Uint8Array(32 * count);
  for (let i = 0; i < count; i++) {
    const text = info.stringAt(compressionSlots.spanDigests, i, `digest of span ${i}`);
    if (!/^sha256:[0-9a-f]{64}$/.test(text)) {
      throw formatError(`digest of span ${i} is not a sha256 digest: ${JSON.stringify(text.slice(0, 80))}`);
    }
    digests.set(Buffer.from(text.slice(7), 'hex'), 32 * i);
  }
  return digests;
}

function readAlgorithm(info: FlatTable): 'gzip' | 'none' {
  const algorithm = info.int8(compressionSlots.algorithm, ztocGzip);
  if (algorithm === ztocGzip) return 'gzip';
  if (algorithm === ztocUncompressed) return 'none';
  throw new IndexError('ERR_INDEX_UNSUPPORTED', `zTOC uses the unknown compression algorithm ${algorithm}`);
}

function readText(table: FlatTable, slot: number, field: string): string {
  return Buffer.from(table.bytes(slot, field).subarray(0, 1024)).toString('utf8');
}
