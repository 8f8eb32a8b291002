// The checkpoint table of an uncompressed layer inside a SOCI zTOC 0.9: a FlatBuffer of its own,
// `table TarZinfo { version:int32; span_size:int64; size:int64; }`. Span i starts at i * span_size.
import { Builder } from 'flatbuffers';
import { formatError, limitError } from './errors.ts';
import { FlatBufferReader } from './flatbuffer-reader.ts';
import type { IndexLimits } from './limits.ts';

const tarZinfoVersion = 2;

export interface TarZinfo {
  /** Bytes, at least 1. */
  readonly spanSize: number;
  /** Bytes of the layer blob, which is the stream. */
  readonly size: number;
}

/** Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT. */
export function readTarZinfo(bytes: Uint8Array, limits: IndexLimits): TarZinfo {
  const table = new FlatBufferReader(bytes, 'tar span table').root();
  const spanSize = table.int64(1, 'span size');
  const size = table.int64(2, 'size');
  if (spanSize < 1 || size < 0) throw formatError(`tar span table has span size ${spanSize} and size ${size}`);
  const spans = Math.ceil(size / spanSize);
  if (spans > limits.spans) throw limitError('number of spans', spans, limits.spans);
  return { spanSize, size };
}

export function writeTarZinfo(zinfo: TarZinfo): Uint8Array {
  const builder = new Builder(64);
  builder.startObject(3);
  builder.addFieldInt32(0, tarZinfoVersion, 0);
  builder.addFieldInt64(1, BigInt(zinfo.spanSize), 0n);
  builder.addFieldInt64(2, BigInt(zinfo.size), 0n);
  builder.finish(builder.endObject());
  return builder.asUint8Array();
}

/** Start of each span, blob and stream offset alike. */
export function storedSpanStarts(zinfo: TarZinfo): Float64Array {
  return Float64Array.from({ length: Math.ceil(zinfo.size / zinfo.spanSize) }, (_, i) => i * zinfo.spanSize);
}
