// Reads FlatBuffers that nobody has verified (FlatBuffers internals, "Tables", "Vectors", "Strings"). Every offset is
// checked against the buffer before it is followed, and strings stay bytes: names and PAX values need not be UTF-8.
// Offsets only lead to places inside the buffer, but several may lead to the same place, so a small buffer can describe
// a lot: callers bound what they collect.
import { formatError } from './errors.ts';
import type { ByteString } from '../util/byte-string.ts';

export class FlatBufferReader {
  readonly bytes: Buffer;
  readonly view: DataView;
  /** Names the buffer in error messages. */
  readonly what: string;

  constructor(bytes: Uint8Array, what: string) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.what = what;
  }

  /** Errors: ERR_INDEX_FORMAT when the buffer does not start with the offset of a table. */
  root(): FlatTable {
    return new FlatTable(this, this.follow(0, 'root table'));
  }

  /** The position that the unsigned 32-bit offset at `at` leads to. */
  follow(at: number, field: string): number {
    this.check(at, 4, field);
    const offset = this.view.getUint32(at, true);
    if (offset === 0) throw formatError(`${this.what}: ${field} points at itself (byte ${at})`);
    const target = at + offset;
    this.check(target, 4, field);
    return target;
  }

  text(at: number, length: number): ByteString {
    return this.bytes.toString('latin1', at, at + length) as ByteString;
  }

  check(at: number, length: number, field: string): void {
    if (at < 0 || at + length > this.bytes.length) {
      throw formatError(`${this.what}: ${field} lies outside of its ${this.bytes.length} bytes (at ${at})`);
    }
  }
}

/** One table. A field that is absent, by vtable or by age of the writer, reads as its default. */
export class FlatTable {
  readonly #buffer: FlatBufferReader;
  readonly #position: number;
  readonly #vtable: number;
  readonly #vtableSize: number;
  readonly #tableSize: number;

  constructor(buffer: FlatBufferReader, position: number) {
    buffer.check(position, 4, 'table');
    const vtable = position - buffer.view.getInt32(position, true);
    buffer.check(vtable, 4, 'vtable');
    const vtableSize = buffer.view.getUint16(vtable, true);
    const tableSize = buffer.view.getUint16(vtable + 2, true);
    if (vtableSize < 4 || vtableSize % 2 !== 0) {
      throw formatError(`${buffer.what}: vtable at byte ${vtable} says it is ${vtableSize} bytes`);
    }
    buffer.check(vtable, vtableSize, 'vtable');
    buffer.check(position, tableSize, 'table');
    this.#buffer = buffer;
    this.#position = position;
    this.#vtable = vtable;
    this.#vtableSize = vtableSize;
    this.#tableSize = tableSize;
  }

  int8(slot: number, fallback: number): number {
    const at = this.#field(slot, 1);
    return at === 0 ? fallback : this.#buffer.view.getInt8(at);
  }

  int32(slot: number): number {
    const at = this.#field(slot, 4);
    return at === 0 ? 0 : this.#buffer.view.getInt32(at, true);
  }

  uint32(slot: number): number {
    const at = this.#field(slot, 4);
    return at === 0 ? 0 : this.#buffer.view.getUint32(at, true);
  }

  /** Errors: ERR_INDEX_FORMAT when the value is not a safe integer. */
  int64(slot: number, field: string): number {
    const at = this.#field(slot, 8);
    if (at === 0) return 0;
    const view = this.#buffer.view;
    const value = view.getInt32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
    if (!Number.isSafeInteger(value)) throw formatError(`${this.#buffer.what}: ${field} is absurd (${value})`);
    return value;
  }

  table(slot: number, field: string): FlatTable | undefined {
    const at = this.#field(slot, 4);
    return at === 0 ? undefined : new FlatTable(this.#buffer, this.#buffer.follow(at, field));
  }

  /** The bytes of a string or byte vector, as a view of the buffer. */
  bytes(slot: number, field: string): Uint8Array {
    const start = this.#vector(slot, 1, field);
    return start === 0 ? new Uint8Array(0) : this.#buffer.bytes.subarray(start, start + this.#length(start));
  }

  string(slot: number, field: string): ByteString {
    const start = this.#vector(slot, 1, field);
    return start === 0 ? ('' as ByteString) : this.#buffer.text(start, this.#length(start));
  }

  stringLength(slot: number, field: string): number {
    const start = this.#vector(slot, 1, field);
    return start === 0 ? 0 : this.#length(start);
  }

  /** Where a string's bytes begin, to recognise one that is shared; 0 when absent. */
  stringPosition(slot: number, field: string): number {
    return this.#vector(slot, 1, field);
  }

  /** Elements of a vector of tables or strings. */
  vectorLength(slot: number, field: string): number {
    const start = this.#vector(slot, 4, field);
    return start === 0 ? 0 : this.#length(start);
  }

  tableAt(slot: number, index: number, field: string): FlatTable {
    return new FlatTable(this.#buffer, this.#buffer.follow(this.#vector(slot, 4, field) + 4 * index, field));
  }

  stringAt(slot: number, index: number, field: string): ByteString {
    const at = this.#buffer.follow(this.#vector(slot, 4, field) + 4 * index, field);
    const length = this.#buffer.view.getUint32(at, true);
    this.#buffer.check(at + 4, length, field);
    return this.#buffer.text(at + 4, length);
  }

  #field(slot: number, size: number): number {
    const entry = 4 + 2 * slot;
    if (entry + 2 > this.#vtableSize) return 0;
    const offset = this.#buffer.view.getUint16(this.#vtable + entry, true);
    if (offset === 0) return 0;
    if (offset < 4 || offset + size > this.#tableSize) {
      throw formatError(
        `${this.#buffer.what}: field ${slot} of the table at byte ${this.#position} lies outside of it`,
      );
    }
    return this.#position + offset;
  }

  /** First element of a vector whose every element of `size` bytes lies inside the buffer; 0 when absent. */
  #vector(slot: number, size: number, field: string): number {
    const at = this.#field(slot, 4);
    if (at === 0) return 0;
    const start = this.#buffer.follow(at, field) + 4;
    this.#buffer.check(start, this.#length(start) * size, field);
    return start;
  }

  #length(start: number): number {
    return this.#buffer.view.getUint32(start - 4, true);
  }
}
