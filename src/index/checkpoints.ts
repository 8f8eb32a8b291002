// The checkpoint table of a gzip layer inside a SOCI zTOC 0.9, all integers little-endian, packed:
//   0  int32  number of checkpoints       4  int64  requested span size
//   then 32785 bytes each: int64 blob offset of the first full byte, int64 stream offset, uint8 bits, 32768 window.
// Version 1 leaves checkpoint 0 out and means blob offset 10 by it. Which version it is, only the length tells.
import { formatError, limitError } from './errors.ts';
import type { IndexLimits } from './limits.ts';
import { windowSize } from './span-columns.ts';

const headerSize = 12;
const recordSize = 17 + windowSize;
/** A gzip header without optional fields (RFC 1952), which version 1 takes for granted. */
const bareGzipHeader = 10;

export interface Checkpoints {
  readonly version: 1 | 2;
  readonly spanSize: number;
  /** Blob offset of the first full byte, per checkpoint. */
  readonly in: Float64Array;
  /** Stream offset, per checkpoint. */
  readonly out: Float64Array;
  readonly bits: Uint8Array;
  /** Window of checkpoint `index` as a view of the table; undefined for the one that version 1 leaves out. */
  window(index: number): Uint8Array | undefined;
}

/** Reads the table; that the offsets ascend is the span table's check. Errors: ERR_INDEX_FORMAT, ERR_INDEX_LIMIT. */
export function readCheckpoints(table: Uint8Array, limits: IndexLimits): Checkpoints {
  if (table.length < headerSize) throw formatError(`checkpoint table of ${table.length} bytes has no header`);
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  const have = view.getInt32(0, true);
  if (have < 1) throw formatError(`checkpoint table says it has ${have} checkpoints`);
  if (have > limits.spans) throw limitError('number of checkpoints', have, limits.spans);
  const version = versionOf(table.length, have);
  const omitted = version === 1 ? 1 : 0;
  const offsets = { in: new Float64Array(have), out: new Float64Array(have), bits: new Uint8Array(have) };
  if (omitted === 1) offsets.in[0] = bareGzipHeader;
  for (let i = omitted; i < have; i++) {
    const at = headerSize + recordSize * (i - omitted);
    offsets.in[i] = readOffset(view, at, `checkpoint ${i}: blob offset`);
    offsets.out[i] = readOffset(view, at + 8, `checkpoint ${i}: stream offset`);
    const bits = table[at + 16] as number;
    if (bits > 7) throw formatError(`checkpoint ${i}: ${bits} bits, but a byte has 8`);
    offsets.bits[i] = bits;
  }
  return {
    version,
    spanSize: readOffset(view, 4, 'span size'),
    ...offsets,
    window(index) {
      if (index < omitted || index >= have) return undefined;
      return checkpointWindow(table, index - omitted);
    },
  };
}

export interface CheckpointsInit {
  readonly spanSize: number;
  readonly in: Float64Array;
  readonly out: Float64Array;
  readonly bits: Uint8Array;
  /** 32768 bytes per checkpoint. */
  readonly windows: Uint8Array;
}

/** Window of checkpoint `index` in a table that `writeCheckpoints` made, as a view of it. */
export function checkpointWindow(table: Uint8Array, index: number): Uint8Array {
  const at = headerSize + recordSize * index + 17;
  return table.subarray(at, at + windowSize);
}

/** Writes the table in version 2. */
export function writeCheckpoints(init: CheckpointsInit): Uint8Array {
  const have = init.in.length;
  if (init.out.length !== have || init.bits.length !== have || init.windows.length !== have * windowSize) {
    throw new TypeError('checkpoint columns differ in length');
  }
  const table = new Uint8Array(headerSize + recordSize * have);
  const view = new DataView(table.buffer);
  view.setInt32(0, have, true);
  writeOffset(view, 4, init.spanSize);
  for (let i = 0; i < have; i++) {
    const at = headerSize + recordSize * i;
    writeOffset(view, at, init.in[i] as number);
    writeOffset(view, at + 8, init.out[i] as number);
    table[at + 16] = init.bits[i] as number;
    table.set(init.windows.subarray(windowSize * i, windowSize * (i + 1)), at + 17);
  }
  return table;
}

function versionOf(length: number, have: number): 1 | 2 {
  if (length === headerSize + recordSize * have) return 2;
  if (length === headerSize + recordSize * (have - 1)) return 1;
  throw formatError(`checkpoint table of ${length} bytes cannot hold ${have} checkpoints`);
}

function readOffset(view: DataView, at: number, what: string): number {
  const value = view.getInt32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
  if (value < 0 || !Number.isSafeInteger(value)) throw formatError(`${what} is ${value}`);
  return value;
}

function writeOffset(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}
