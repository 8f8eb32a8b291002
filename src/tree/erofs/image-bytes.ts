// Bytes of an image that nobody has checked.
import { TreeError } from '../errors.ts';

/** Errors: ERR_TREE_IMAGE. */
export function imageError(detail: string): TreeError {
  return new TreeError('ERR_TREE_IMAGE', `the EROFS image ${detail}`);
}

/** Numbers and ranges of an image. Errors of all methods: ERR_TREE_IMAGE for what does not lie inside it. `what` says what is read. */
export class ImageBytes {
  readonly buffer: Buffer;

  constructor(bytes: Uint8Array) {
    this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get size(): number {
    return this.buffer.length;
  }

  /** A view. */
  range(at: number, size: number, what: string): Buffer {
    if (!Number.isSafeInteger(at) || !Number.isSafeInteger(size) || at < 0 || size < 0 || at + size > this.size)
      throw imageError(`ends before ${what} at byte ${at}`);
    return this.buffer.subarray(at, at + size);
  }

  /** Latin 1. */
  text(at: number, end: number): string {
    return this.buffer.toString('latin1', at, end);
  }
}

/** Errors: ERR_TREE_IMAGE beyond 2^53. */
export function uint64(bytes: Buffer, at: number, what: string): number {
  const high = bytes.readUInt32LE(at + 4);
  if (high >= 0x20_0000) throw imageError(`has an impossible ${what}`);
  return high * 0x1_0000_0000 + bytes.readUInt32LE(at);
}

/** Errors: ERR_TREE_IMAGE outside the numbers that are exact. */
export function int64(bytes: Buffer, at: number, what: string): number {
  const value = bytes.readInt32LE(at + 4) * 0x1_0000_0000 + bytes.readUInt32LE(at);
  if (!Number.isSafeInteger(value)) throw imageError(`has an impossible ${what}`);
  return value;
}

/** Errors: ERR_TREE_IMAGE when a byte of [from, to) is not 0: something unknown is there. */
export function checkZero(bytes: Buffer, from: number, to: number, what: string): void {
  for (let i = from; i < to; i++) if (bytes[i] !== 0) throw imageError(`has something unknown in ${what}`);
}
