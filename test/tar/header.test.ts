import { describe, expect, it } from 'vitest';
import { parseHeader } from '../../src/tar/header.ts';
import { readNumber } from '../../src/tar/numeric.ts';
import { base256, GNU_MAGIC, member } from '../support/tar-builder.ts';

describe('readNumber', () => {
  it.each([
    ['0000644\0', 0o644],
    ['   644 \0', 0o644],
    ['00000644', 0o644],
    ['\0\0\0\0\0\0\0\0', 0],
    ['        ', 0],
    ['12 junk\0', 0o12],
    ['0000648\0', undefined],
    ['-000001\0', undefined],
  ])('reads octal %j', (text, value) => {
    expect(readNumber(Buffer.from(text, 'latin1'), 0, 8)).toBe(value);
  });

  it.each([0, 1, -1, -2, 3_000_000, -1_700_000_000, 2 ** 33, Number.MAX_SAFE_INTEGER, -Number.MAX_SAFE_INTEGER])(
    'reads base-256 %d',
    (value) => expect(readNumber(base256(value, 12), 0, 12)).toBe(value),
  );

  it('refuses base-256 numbers that a double does not hold exactly', () => {
    expect(readNumber(base256(2n ** 53n, 12), 0, 12)).toBeUndefined();
    expect(readNumber(Buffer.alloc(12, 0xfe), 0, 12)).toBeUndefined();
  });
});

describe('parseHeader', () => {
  it('joins the ustar prefix', () => {
    expect(parseHeader(member({ name: 'name', prefix: 'some/prefix' }), 0, 0).name).toBe('some/prefix/name');
  });

  it('has no prefix in GNU headers, where atime and ctime stand there', () => {
    const block = member({
      name: 'name',
      magic: GNU_MAGIC,
      patch: (b) => b.write('14371436274\x0014371436274\0', 345),
    });
    expect(parseHeader(block, 0, 0)).toMatchObject({ name: 'name', format: 'gnu' });
  });

  it('takes the prefix that Go before 1.8 wrote into GNU headers', () => {
    const block = member({ name: 'name', magic: GNU_MAGIC, patch: (b) => b.write('usr/share/some/dir', 345) });
    expect(parseHeader(block, 0, 0).name).toBe('usr/share/some/dir/name');
  });

  it('reads star headers, whose prefix is shorter', () => {
    const block = member({
      name: 'name',
      prefix: 'p'.repeat(131),
      patch: (b) => {
        b.write('14371436274\0', 476);
        b.write('tar\0', 508);
      },
    });
    expect(parseHeader(block, 0, 0)).toMatchObject({ name: `${'p'.repeat(131)}/name`, format: 'star' });
  });

  it('ignores owner names and devices in v7 headers', () => {
    const block = member({ name: 'name', magic: '', uname: 'root', flag: '3', major: 5 });
    expect(parseHeader(block, 0, 0)).toMatchObject({ format: 'v7', uname: '', devMajor: 0 });
  });

  it('fills a name of exactly 100 bytes', () => {
    expect(parseHeader(member({ name: 'n'.repeat(100) }), 0, 0).name).toBe('n'.repeat(100));
  });

  it('accepts checksums of signed bytes', () => {
    const name = Buffer.from([0xff, 0xfe, 0x80]);
    expect(parseHeader(member({ name, checksum: 'signed' }), 0, 0).name).toBe('\xff\xfe\x80');
  });

  it('refuses a wrong checksum with the offset', () => {
    const block = member({ name: 'a', checksum: 'wrong' });
    expect(() => parseHeader(block, 0, 1024)).toThrow(/checksum does not match \(at byte 1024/);
  });

  it.each([
    ['mode', 100],
    ['uid', 108],
    ['size', 124],
    ['mtime', 136],
  ])('refuses a %s that is not a number, naming the entry', (field, at) => {
    const block = member({ name: 'bad\xffname', patch: (b) => b.write('zz', at) });
    expect(() => parseHeader(block, 0, 0)).toThrow(new RegExp(`bad.*name: the ${field} field is not a number`));
  });
});
