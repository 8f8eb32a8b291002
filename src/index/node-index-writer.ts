import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { constants, deflateRaw } from 'node:zlib';
import { writeWhole } from '../util/write-whole.ts';
import { encodeEntries } from './entry-encoder.ts';
import { limitError } from './errors.ts';
import type { LayerIndex, SpanTable } from './layer-index.ts';
import { defaultIndexLimits, type IndexLimits } from './limits.ts';
import {
  checkOf,
  checkSize,
  hashedHeaderSize,
  headerSize,
  type IndexInfo,
  type IndexProvenance,
  nodeIndexMagic,
  nodeIndexVersions,
  type SpanLayout,
  spanLayout,
} from './node-index-format.ts';
import type { RemoteWindows } from './peel-windows.ts';

const deflate = promisify(deflateRaw);
/** Windows compressed at a time. */
const batchSize = 8;

export interface EncodedNodeIndex {
  /** The file, in the order of its pieces. */
  readonly pieces: readonly Uint8Array[];
  readonly size: number;
  /** 32 bytes that stand for the whole file. */
  readonly fingerprint: Uint8Array;
}

export interface NodeIndexOptions {
  readonly signal?: AbortSignal | undefined;
  /** Where the windows are, if not in `index`: one element per span. */
  readonly windows?: RemoteWindows | undefined;
  /** Of who opens the file. */
  readonly limits?: IndexLimits | undefined;
}

/**
 * The index file of a layer. Windows are read from `index` one batch at a time and kept compressed until all are there.
 * Rejects with ERR_INDEX_LIMIT when nobody could open the file, with the reason of `signal`, or with whatever `index.spans.window` rejects with.
 */
export async function encodeNodeIndex(
  index: LayerIndex,
  provenance: IndexProvenance,
  options: NodeIndexOptions = {},
): Promise<EncodedNodeIndex> {
  const { spans } = index;
  const remote = options.windows;
  if (remote !== undefined && (remote.lengths.length !== spans.count || remote.sha256.length !== 32 * spans.count)) {
    throw new TypeError(`windows of ${remote.lengths.length} spans for a layer of ${spans.count}`);
  }
  const info = Buffer.from(JSON.stringify(infoOf(index, provenance, remote)), 'utf8');
  const entries = encodeEntries(index.entries);
  // What a small table says can be long.
  const { blobBytes } = options.limits ?? defaultIndexLimits;
  if (entries.length > blobBytes) throw limitError('size of entries in an index file', entries.length, blobBytes);
  const layout = spanLayout(spans.count, {
    hasDigests: hasDigests(spans),
    windowCheckSize: remote === undefined ? checkSize : 32,
  });
  const spanColumns = encodeSpans(spans, layout);
  const infoAt = headerSize;
  const spansAt = align8(infoAt + info.length);
  const entriesAt = spansAt + spanColumns.length;
  const windowsAt = entriesAt + entries.length;
  const windows =
    remote === undefined ? await encodeWindows(spans, spanColumns, layout, windowsAt, options.signal) : [];
  if (remote !== undefined) placeWindows(remote, spanColumns, layout);
  const size = windowsAt + windows.reduce((sum, window) => sum + window.length, 0);
  const version = remote === undefined ? nodeIndexVersions.ownWindows : nodeIndexVersions.remoteWindows;
  const header = encodeHeader(version, size, [
    [infoAt, info],
    [spansAt, spanColumns],
    [entriesAt, entries],
  ]);
  const padding = Buffer.alloc(spansAt - infoAt - info.length);
  return {
    pieces: [header, info, padding, spanColumns, entries, ...windows],
    size,
    fingerprint: new Uint8Array(header.subarray(hashedHeaderSize)),
  };
}

/**
 * Encodes and writes the index to `path`, which appears whole and durable or not at all; whatever was there is replaced.
 * Returns the fingerprint. Errors: those of `encodeNodeIndex` and of the file system.
 */
export async function writeNodeIndex(
  path: string,
  index: LayerIndex,
  provenance: IndexProvenance,
  options: NodeIndexOptions = {},
): Promise<Uint8Array> {
  const encoded = await encodeNodeIndex(index, provenance, options);
  await writeWhole(path, encoded.pieces);
  return encoded.fingerprint;
}

function infoOf(index: LayerIndex, provenance: IndexProvenance, remote: RemoteWindows | undefined): IndexInfo {
  const { spans } = index;
  const first = spans.count > 0 ? spans.span(0) : undefined;
  return {
    ...provenance,
    entryCount: index.entries.length,
    decoder: first?.decoder ?? 'stored',
    blobSize: spans.blobSize,
    streamSize: spans.streamSize,
    openEnded: spans.openEnded,
    spanSize: spans.spanSize,
    spanCount: spans.count,
    hasDigests: hasDigests(spans),
    windows: remote && { digest: remote.digest, size: remote.size, from: remote.from },
  };
}

function hasDigests(spans: SpanTable): boolean {
  return spans.count > 0 && spans.span(0).sha256 !== undefined;
}

function encodeSpans(spans: SpanTable, layout: SpanLayout): Buffer {
  const section = Buffer.alloc(layout.length);
  for (let i = 0; i < spans.count; i++) {
    const span = spans.span(i);
    section.writeDoubleLE(span.streamStart, layout.streamStarts + 8 * i);
    section.writeDoubleLE(span.blobStart + (span.bits === 0 ? 0 : 1), layout.blobStarts + 8 * i);
    section[layout.bits + i] = span.bits;
    if (span.sha256 !== undefined) section.set(span.sha256, layout.sha256 + 32 * i);
  }
  section.writeDoubleLE(spans.streamSize, layout.streamStarts + 8 * spans.count);
  return section;
}

/** Fills the window columns of `section` with where they are elsewhere. */
function placeWindows({ offsets, lengths, sha256 }: RemoteWindows, section: Buffer, layout: SpanLayout): void {
  for (const [i, length] of lengths.entries()) {
    section.writeDoubleLE(offsets[i] as number, layout.windowOffsets + 8 * i);
    section.writeUInt32LE(length, layout.windowLengths + 4 * i);
  }
  section.set(sha256, layout.windowChecks);
}

/** Fills the window columns of `section` and returns the windows as stored. */
async function encodeWindows(
  spans: SpanTable,
  section: Buffer,
  layout: SpanLayout,
  start: number,
  signal: AbortSignal | undefined,
): Promise<Buffer[]> {
  const stored: Buffer[] = [];
  let at = start;
  for (let from = 0; from < spans.count; from += batchSize) {
    signal?.throwIfAborted();
    const batch = Array.from({ length: Math.min(batchSize, spans.count - from) }, (_, i) =>
      encodeWindow(spans, from + i, signal),
    );
    for (const [i, window] of (await Promise.all(batch)).entries()) {
      if (window === undefined) continue;
      section.writeDoubleLE(at, layout.windowOffsets + 8 * (from + i));
      section.writeUInt32LE(window.length, layout.windowLengths + 4 * (from + i));
      section.set(checkOf(window), layout.windowChecks + checkSize * (from + i));
      stored.push(window);
      at += window.length;
    }
  }
  return stored;
}

async function encodeWindow(spans: SpanTable, i: number, signal: AbortSignal | undefined): Promise<Buffer | undefined> {
  const window = await spans.window(i, { signal });
  if (window === undefined) return undefined;
  const deflated = await deflate(window, { level: constants.Z_BEST_SPEED });
  return deflated.length < window.length ? deflated : Buffer.from(window);
}

function encodeHeader(version: number, size: number, sections: readonly (readonly [number, Buffer])[]): Buffer {
  const header = Buffer.alloc(headerSize);
  nodeIndexMagic.copy(header);
  header.writeUInt32LE(version, 8);
  header.writeUInt32LE(hashedHeaderSize, 12);
  header.writeBigUInt64LE(BigInt(size), 16);
  for (const [i, [offset, bytes]] of sections.entries()) {
    const at = 24 + 32 * i;
    header.writeBigUInt64LE(BigInt(offset), at);
    header.writeBigUInt64LE(BigInt(bytes.length), at + 8);
    header.set(checkOf(bytes), at + 16);
  }
  createHash('sha256').update(header.subarray(0, hashedHeaderSize)).digest().copy(header, hashedHeaderSize);
  return header;
}

function align8(at: number): number {
  return Math.ceil(at / 8) * 8;
}
