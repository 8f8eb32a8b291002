// Unsigned LEB128 for whole numbers up to 2^53 - 1, zigzag for signed ones. Multiplication, not shifts: offsets pass 32 bits.
import { formatError } from './errors.ts';
import type { ByteString } from '../util/byte-string.ts';

const maxBytes = 8;

/** A buffer that grows while it is written. */
export class ByteWriter {
  #buffer = Buffer.allocUnsafe(1 << 16);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  uint(value: number): void {
    this.#reserve(maxBytes);
    let rest = value;
    while (rest > 127) {
      this.#buffer[this.#length++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    this.#buffer[this.#length++] = rest;
  }

  /** Between -2^52 and 2^52. */
  int(value: number): void {
    this.uint(value < 0 ? -2 * value - 1 : 2 * value);
  }

  bytes(value: Uint8Array): void {
    this.uint(value.length);
    this.raw(value);
  }

  raw(value: Uint8Array): void {
    this.#reserve(value.length);
    this.#buffer.set(value, this.#length);
    this.#length += value.length;
  }

  string(value: ByteString, from = 0): void {
    this.uint(value.length - from);
    this.#reserve(value.length - from);
    this.#length += this.#buffer.write(from === 0 ? value : value.slice(from), this.#length, 'latin1');
  }

  finish(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(2 * this.#buffer.length, this.#length + bytes));
    grown.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = grown;
  }
}

/** Errors of every method: ERR_INDEX_FORMAT at the end of the bytes, or on a number that is too large or not in its shortest form. */
export class ByteReader {
  readonly #buffer: Buffer;
  readonly #what: string;
  #at = 0;

  /** `what` names the bytes in messages. */
  constructor(bytes: Uint8Array, what = 'node index') {
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  get done(): boolean {
    return this.#at === this.#buffer.length;
  }

  uint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < maxBytes; i++) {
      const byte = this.#buffer[this.#at++];
      if (byte === undefined) throw formatError(`${this.#what} ends inside a number`);
      if (byte === 0 && i > 0) throw formatError(`${this.#what} has a number with leading zeros at byte ${this.#at}`);
      value += (byte & 127) * scale;
      if (byte < 128) {
        if (!Number.isSafeInteger(value)) break;
        return value;
      }
      scale *= 128;
    }
    throw formatError(`${this.#what} has a number that is too large at byte ${this.#at}`);
  }

  int(): number {
    const value = this.uint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  /** A view of the input. */
  bytes(): Buffer {
    return this.raw(this.uint());
  }

  /** A view of the input. */
  raw(length: number): Buffer {
    const start = this.#at;
    if (start + length > this.#buffer.length)
      throw formatError(`${this.#what} ends inside a string of ${length} bytes`);
    this.#at = start + length;
    return this.#buffer.subarray(start, this.#at);
  }

  string(): ByteString {
    const length = this.uint();
    const start = this.#at;
    if (start + length > this.#buffer.length)
      throw formatError(`${this.#what} ends inside a string of ${length} bytes`);
    this.#at = start + length;
    return this.#buffer.toString('latin1', start, this.#at) as ByteString;
  }
}
