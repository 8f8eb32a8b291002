import { describe, expect, it } from 'vitest';
import { packRecords } from '../../src/tar/packed-records.ts';
import { noRecords } from '../../src/tar/pax.ts';
import type { PaxRecords } from '../../src/tar/pax.ts';
import type { ByteString } from '../../src/util/byte-string.ts';

const key = (text: string) => text as ByteString;
const all = Uint8Array.from({ length: 256 }, (_, i) => i);
const some = (): PaxRecords =>
  new Map([
    [key('mtime'), Buffer.from('1.5')],
    [key('SCHILY.xattr.user.\u00ff 1'), all],
    [key('empty'), new Uint8Array()],
    [key('12 34 path'), Buffer.from('5 6 x')],
  ]);

describe('packRecords', () => {
  it('keeps keys, bytes and order', () => {
    const packed = packRecords(some());
    const plain = (records: Iterable<readonly [ByteString, Uint8Array]>) =>
      [...records].map(([name, value]) => [name, Buffer.from(value).toString('hex')]);
    expect(plain(packed)).toEqual(plain(some()));
    expect(plain(packed.entries())).toEqual(plain(some()));
    expect([...packed.keys()]).toEqual([...some().keys()]);
    expect([...packed.values()].map(({ length }) => length)).toEqual([3, 256, 0, 5]);
    expect(packed.size).toBe(4);
    expect(packed.get(key('SCHILY.xattr.user.\u00ff 1'))).toEqual(all);
    expect(packed.get(key('empty'))).toHaveLength(0);
    expect([packed.has(key('empty')), packed.has(key('path')), packed.get(key('path'))]).toEqual([
      true,
      false,
      undefined,
    ]);
    const seen: ByteString[] = [];
    packed.forEach((_value, name) => seen.push(name));
    expect(seen).toEqual([...some().keys()]);
  });

  it('does nothing to what is small already', () => {
    const packed = packRecords(some());
    expect(packRecords(packed)).toBe(packed);
    expect(packRecords(noRecords)).toBe(noRecords);
    expect(packRecords(new Map())).toBe(noRecords);
  });
});
