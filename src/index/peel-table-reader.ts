import { createHash } from 'node:crypto';
import { type Digest, digestFromSha256 } from '../oci/digest.ts';
import { formatError, IndexError, limitError } from './errors.ts';
import { defaultIndexLimits, type IndexLimits } from './limits.ts';
import { readTableColumns } from './peel-table-columns.ts';
import {
  sha256Size,
  tableDecoders,
  type TableHeader,
  tableHeaderSize,
  tableMagic,
  tableSize,
  tableVersion,
} from './peel-table-format.ts';
import type { PeelWindows } from './peel-windows.ts';
import { SpanColumns, zstdMaxRatio } from './span-columns.ts';
import { decodeZstd } from './zstd-decode.ts';

export interface PeelTable {
  readonly layer: Digest;
  readonly diffId: Digest;
  /** Without windows of its own. */
  readonly spans: SpanColumns;
  readonly windows: PeelWindows;
  /** The layer's tree, an EROFS image that nobody has checked yet. */
  readonly tree: Uint8Array;
}

/**
 * Reads a table. That it is the one that was asked for, and that it fits its layer, is the caller's check.
 * Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT, ERR_INDEX_VERSION, ERR_INDEX_CHECKSUM when its last 32 bytes are not its sha256.
 */
export function readPeelTable(bytes: Uint8Array, options: { limits?: IndexLimits | undefined } = {}): PeelTable {
  const limits = options.limits ?? defaultIndexLimits;
  if (bytes.length > limits.blobBytes) throw limitError('size of peel table', bytes.length, limits.blobBytes);
  const table = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const header = readHeader(table);
  checkHeader(header, table, limits);
  const columns = readTableColumns(header, table.subarray(tableHeaderSize, tableHeaderSize + header.columnBytes));
  const spanDigestsAt = tableHeaderSize + header.columnBytes;
  const windowDigestsAt = spanDigestsAt + sha256Size * header.spans;
  const treeAt = windowDigestsAt + sha256Size * header.windows;
  const spans = new SpanColumns(
    {
      decoder: header.decoder,
      blobSize: header.blobSize,
      streamSize: header.streamSize,
      openEnded: false,
      spanSize: header.spanSize,
      streamStarts: columns.streamStarts,
      blobStarts: columns.blobStarts,
      bits: columns.bits,
      // Copied: a view would keep the whole table in memory.
      sha256: Uint8Array.from(table.subarray(spanDigestsAt, windowDigestsAt)),
    },
    'peel table',
    limits,
  );
  return {
    layer: digestFromSha256(header.layerSha256),
    diffId: digestFromSha256(header.diffIdSha256),
    spans,
    windows: placeWindows(header, columns.windowLengths, table.subarray(windowDigestsAt, treeAt)),
    tree: decodeZstd(table.subarray(treeAt, treeAt + header.treeFrameBytes), header.treeBytes, 'tree of peel table'),
  };
}

function readHeader(table: Buffer): TableHeader {
  if (!table.subarray(0, tableMagic.length).equals(tableMagic))
    throw formatError('not a peel table: it begins otherwise');
  if (table.length < 12) throw formatError(`peel table ends after ${table.length} bytes`);
  // Before everything else: another version may look different behind it.
  const version = table.readUInt32LE(8);
  if (version !== tableVersion) {
    throw new IndexError(
      'ERR_INDEX_VERSION',
      `peel table has version ${version}, this release reads version ${tableVersion}`,
    );
  }
  if (table.length < tableHeaderSize) throw formatError(`peel table ends after ${table.length} bytes`);
  const decoder = tableDecoders[table.readUInt32LE(12)];
  if (decoder === undefined) throw formatError(`peel table names the unknown decoder ${table.readUInt32LE(12)}`);
  return {
    decoder,
    layerSha256: table.subarray(16, 48),
    diffIdSha256: table.subarray(48, 80),
    blobSize: readSize(table, 80, 'blob size'),
    streamSize: readSize(table, 88, 'stream size'),
    spanSize: readSize(table, 96, 'span size'),
    spans: table.readUInt32LE(104),
    windows: table.readUInt32LE(108),
    columnBytes: readSize(table, 112, 'size of columns'),
    treeFrameBytes: readSize(table, 120, 'compressed size of tree'),
    treeBytes: readSize(table, 128, 'size of tree'),
  };
}

/** Before memory is taken for anything that the header states. */
function checkHeader(header: TableHeader, table: Buffer, limits: IndexLimits): void {
  const { decoder, spans, windows, treeBytes, treeFrameBytes } = header;
  if (tableSize(header) !== table.length) {
    throw formatError(`peel table states ${tableSize(header)} bytes but has ${table.length}`);
  }
  const sum = createHash('sha256').update(table.subarray(0, -sha256Size)).digest();
  if (!sum.equals(table.subarray(-sha256Size))) {
    throw new IndexError('ERR_INDEX_CHECKSUM', 'peel table is damaged: its checksum is another');
  }
  if (spans === 0) throw formatError('peel table has no spans');
  if (spans > limits.spans) throw limitError('number of spans in peel table', spans, limits.spans);
  if (windows > 0 && decoder !== 'gzip-checkpoint') {
    throw formatError(`peel table has ${windows} windows for ${spans} ${decoder} spans`);
  }
  if (decoder === 'stored' && header.blobSize !== header.streamSize) {
    throw formatError(`peel table states ${header.blobSize} bytes of blob and ${header.streamSize} of stream, stored`);
  }
  if (treeBytes > limits.treeBytes) throw limitError('size of tree in peel table', treeBytes, limits.treeBytes);
  if (treeBytes === 0 || treeBytes > treeFrameBytes * zstdMaxRatio) {
    throw formatError(`peel table claims a tree of ${treeBytes} bytes out of ${treeFrameBytes}`);
  }
}

/** Frames lie in the windows blob without gaps. `digests` has those of the spans that have a window. */
function placeWindows(header: TableHeader, lengths: Uint32Array, digests: Uint8Array): PeelWindows {
  const offsets = new Float64Array(header.spans);
  const sha256 = new Uint8Array(sha256Size * header.spans);
  let size = 0;
  let found = 0;
  for (const [i, length] of lengths.entries()) {
    offsets[i] = size;
    if (length === 0) continue;
    sha256.set(digests.subarray(sha256Size * found, sha256Size * (found + 1)), sha256Size * i);
    size += length;
    found++;
  }
  if (found !== header.windows) throw formatError(`peel table states ${header.windows} windows but has ${found}`);
  return { size, offsets, lengths, sha256 };
}

function readSize(table: Buffer, at: number, what: string): number {
  const value = table.readBigUInt64LE(at);
  if (value > Number.MAX_SAFE_INTEGER) throw formatError(`${what} in peel table is ${value}`);
  return Number(value);
}
