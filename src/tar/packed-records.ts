// The PAX records of one entry in one string. A Map with a view of bytes per record takes ten times as much, and a layer of a
// GNU tar in POSIX format has three records on each of its entries.
import { type ByteString, byteStringFrom } from '../util/byte-string.ts';
import { noRecords, type PaxRecords } from './pax.ts';

/** The same records, in the same order, made small for keeping: values come out as copies. */
export function packRecords(records: PaxRecords): PaxRecords {
  if (records === noRecords || records instanceof PackedRecords) return records;
  return records.size === 0 ? noRecords : new PackedRecords(records);
}

class PackedRecords implements PaxRecords {
  readonly size: number;
  /** Per record: length of the key, space, length of the value, space, key, value. */
  readonly #packed: string;

  constructor(records: PaxRecords) {
    this.size = records.size;
    const pieces: Uint8Array[] = [];
    for (const [key, value] of records) {
      pieces.push(Buffer.from(`${key.length} ${value.length} ${key}`, 'latin1'), value);
    }
    // Through a buffer, because a string put together from others would keep them.
    this.#packed = Buffer.concat(pieces).toString('latin1');
  }

  get(key: ByteString): Uint8Array | undefined {
    for (const [found, value] of this) if (found === key) return value;
    return undefined;
  }

  has(key: ByteString): boolean {
    return this.get(key) !== undefined;
  }

  forEach(each: (value: Uint8Array, key: ByteString, records: PaxRecords) => void): void {
    for (const [key, value] of this) each(value, key, this);
  }

  *keys(): MapIterator<ByteString> {
    for (const [key] of this) yield key;
  }

  *values(): MapIterator<Uint8Array> {
    for (const [, value] of this) yield value;
  }

  entries(): MapIterator<[ByteString, Uint8Array]> {
    return this[Symbol.iterator]();
  }

  *[Symbol.iterator](): MapIterator<[ByteString, Uint8Array]> {
    const packed = this.#packed;
    for (let at = 0; at < packed.length; ) {
      const keySpace = packed.indexOf(' ', at);
      const valueSpace = packed.indexOf(' ', keySpace + 1);
      const keyEnd = valueSpace + 1 + Number(packed.slice(at, keySpace));
      const end = keyEnd + Number(packed.slice(keySpace + 1, valueSpace));
      const value = Buffer.from(packed.slice(keyEnd, end), 'latin1');
      yield [
        byteStringFrom(Buffer.from(packed.slice(valueSpace + 1, keyEnd), 'latin1')),
        new Uint8Array(value.buffer, value.byteOffset, value.length),
      ];
      at = end;
    }
  }
}
