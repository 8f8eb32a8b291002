import { formatError, limitError } from './errors.ts';
import { maxFrameBytes, type TableHeader } from './peel-table-format.ts';
import { ByteReader } from './varint.ts';

export interface TableColumns {
  readonly streamStarts: Float64Array;
  /** First blob byte that belongs to a span alone. */
  readonly blobStarts: Float64Array;
  readonly bits: Uint8Array | undefined;
  /** Bytes of each span's frame; 0 when it has none. */
  readonly windowLengths: Uint32Array;
}

/**
 * Reads the columns of a table; that they ascend within the layer is the span table's check. The header's count must have
 * been held against the table's size. Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT.
 */
export function readTableColumns({ decoder, spans }: TableHeader, bytes: Uint8Array): TableColumns {
  const reader = new ByteReader(bytes, 'columns of peel table');
  const streamStarts = new Float64Array(spans);
  for (let i = 1; i < spans; i++) streamStarts[i] = (streamStarts[i - 1] as number) + reader.uint();
  const blobStarts = decoder === 'stored' ? streamStarts : new Float64Array(spans);
  const windowLengths = new Uint32Array(spans);
  let bits: Uint8Array | undefined;
  if (decoder !== 'stored') {
    let at = 0;
    for (let i = 0; i < spans; i++) blobStarts[i] = at += reader.uint();
  }
  if (decoder === 'zstd-frame' && blobStarts[0] !== 0) {
    throw formatError(`peel table: the first zstd frame starts at blob offset ${blobStarts[0]}`);
  }
  if (decoder === 'gzip-checkpoint') {
    bits = Uint8Array.from(reader.raw(spans));
    for (let i = 0; i < spans; i++) windowLengths[i] = windowLength(reader.uint(), i);
  }
  if (!reader.done) throw formatError('peel table has more columns than its spans need');
  return { streamStarts, blobStarts, bits, windowLengths };
}

function windowLength(length: number, span: number): number {
  if (length > maxFrameBytes) throw limitError(`window of span ${span} in peel table`, length, maxFrameBytes);
  if (length > 0 && span === 0) throw formatError('peel table has a window for the first span, which nothing precedes');
  return length;
}
