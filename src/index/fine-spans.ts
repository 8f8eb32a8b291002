import type { FineIndex } from '../native/stream-indexer.ts';
import type { FineSpans, LayerBuild } from './layer-build.ts';
import { defaultIndexLimits } from './limits.ts';
import { SpanColumns, type SpanColumnsInit } from './span-columns.ts';
import type { FrameSpans } from './zstd-frame-spans.ts';

/** What a pass over a blob found of places to begin at. */
export interface FineFound {
  readonly spanSize: number;
  readonly blobSize: number;
  readonly streamSize: number;
  /** The indexer's own, of a gzip or stored blob that it saw itself. */
  readonly indexed?: FineIndex | undefined;
  /** Of a zstd blob. */
  readonly frames?: { readonly spans: FrameSpans } | { readonly obstacle: string } | undefined;
  readonly decoder: 'gzip-checkpoint' | 'stored' | 'zstd-frame';
}

type FineResult = Pick<LayerBuild, 'fine' | 'fineObstacle'>;

/** The fine spans of a layer, or why it has none. */
export function fineSpans(found: FineFound): FineResult {
  const { streamSize, frames, indexed } = found;
  if (streamSize === 0) return none('the layer is empty');
  if (frames !== undefined) return 'spans' in frames ? withoutWindows(found, frames.spans) : none(frames.obstacle);
  if (indexed === undefined) return none('another program has decompressed the layer');
  if (found.decoder !== 'gzip-checkpoint')
    return withoutWindows(found, { blobStarts: indexed.out, streamStarts: indexed.out, sha256: indexed.spanSha256 });
  const columns = { blobStarts: indexed.in, streamStarts: indexed.out, bits: indexed.bits, sha256: indexed.spanSha256 };
  const { frames: windows, frameLengths, frameSha256 } = indexed;
  return made(found, columns, { frames: windows, frameLengths, frameSha256 });
}

type Columns = Pick<SpanColumnsInit, 'blobStarts' | 'streamStarts' | 'bits' | 'sha256'>;

function withoutWindows(found: FineFound, columns: Columns): FineResult {
  const count = columns.streamStarts.length;
  const frameSha256 = new Uint8Array(32 * count);
  return made(found, columns, { frames: new Uint8Array(0), frameLengths: new Uint32Array(count), frameSha256 });
}

function made(found: FineFound, columns: Columns, windows: Omit<FineSpans, 'spans'>): FineResult {
  const count = columns.streamStarts.length;
  if (count > defaultIndexLimits.spans)
    return none(`it would take ${count} spans, more than the ${defaultIndexLimits.spans} that an index may have`);
  const { decoder, blobSize, streamSize, spanSize } = found;
  const init = { ...columns, decoder, blobSize, streamSize, openEnded: false, spanSize };
  const spans = new SpanColumns(init, 'fine spans built from the layer');
  return { fine: { spans, ...windows }, fineObstacle: undefined };
}

function none(fineObstacle: string): FineResult {
  return { fine: undefined, fineObstacle };
}
