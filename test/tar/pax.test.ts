import { describe, expect, it } from 'vitest';
import { formatPaxRecord, parsePaxRecords, paxInteger, paxTime } from '../../src/tar/pax.ts';
import { formatXattrRecord, xattrsOf } from '../../src/tar/xattr-records.ts';
import { type ByteString, byteStringFromText } from '../../src/util/byte-string.ts';
import { paxRecord } from '../support/tar-builder.ts';

const key = (text: string): ByteString => text as ByteString;

describe('parsePaxRecords', () => {
  it('keeps binary values, newlines and equals signs', () => {
    const value = Buffer.from([0, 0x0a, 0x3d, 0xff, 0x80]);
    const records = parsePaxRecords(
      Buffer.concat([paxRecord('path', 'a=b'), paxRecord('SCHILY.xattr.user.x', value)]),
      0,
    );
    expect(records.get(key('path'))).toEqual(Buffer.from('a=b'));
    expect(records.get(key('SCHILY.xattr.user.x'))).toEqual(value);
  });

  it('lets a later record win and accepts NUL padding', () => {
    const bytes = Buffer.concat([paxRecord('path', 'a'), paxRecord('path', 'b'), Buffer.alloc(7)]);
    expect(parsePaxRecords(bytes, 0).get(key('path'))).toEqual(Buffer.from('b'));
  });

  it('joins the repeated records of GNU sparse 0.0', () => {
    const pairs = [1, 2, 3, 4].map((n, i) =>
      paxRecord(i % 2 === 0 ? 'GNU.sparse.offset' : 'GNU.sparse.numbytes', `${n}`),
    );
    expect(parsePaxRecords(Buffer.concat(pairs), 0).get(key('GNU.sparse.map'))).toEqual(Buffer.from('1,2,3,4'));
    expect(() => parsePaxRecords(Buffer.concat(pairs.slice(1)), 0)).toThrow(/do not alternate/);
  });

  it.each([
    'x',
    '5 a=b\n',
    '99 a=b\n',
    '6 a=bc',
    '6 ab \n',
    '5 =b\n',
    '0 a=b\n',
    '-6 a=b\n',
    '7  a=b\n\n',
    '99999999999 a=b\n',
  ])('refuses %j', (text) =>
    expect(() => parsePaxRecords(Buffer.from(text), 512)).toThrow(/malformed PAX header.*at byte 512/),
  );
});

describe('formatPaxRecord', () => {
  it.each([1, 3, 4, 5, 88, 89, 90, 91, 92, 93, 987, 988, 989, 990, 9985])(
    'counts its own digits for %d bytes',
    (size) => {
      const value = Buffer.alloc(size, 0x41);
      const record = formatPaxRecord(key('path'), value);
      expect(record).toEqual(paxRecord('path', value));
      expect(parsePaxRecords(record, 0).get(key('path'))).toEqual(value);
    },
  );
});

describe('paxTime', () => {
  it.each([
    ['0', 0, 0],
    ['1700000000', 1_700_000_000, 0],
    ['1.5', 1, 500_000_000],
    ['1.123456789987', 1, 123_456_789],
    ['1.', 1, 0],
    ['-1', -1, 0],
    ['-0', 0, 0],
    ['-0.25', -1, 750_000_000],
    ['-1.000000001', -2, 999_999_999],
  ])('reads %s', (text, seconds, nanoseconds) => {
    expect(paxTime('mtime', Buffer.from(text), 0)).toEqual({ seconds, nanoseconds });
  });

  it.each(['', 'x', '1e3', '1.5x', '.5', '+1', '--1', '99999999999999999999'])('refuses %j', (text) => {
    expect(() => paxTime('mtime', Buffer.from(text), 0)).toThrow(/mtime is not a time/);
  });
});

describe('paxInteger', () => {
  it.each(['', '1.5', '0x10', '99999999999999999', 'ü'])('refuses %j', (text) => {
    expect(() => paxInteger('size', Buffer.from(text), 0)).toThrow(/size is not a whole number/);
  });
});

describe('xattrs', () => {
  it('decodes the libarchive spelling, and prefers the raw one', () => {
    const records = parsePaxRecords(
      Buffer.concat([
        paxRecord('LIBARCHIVE.xattr.user.a%3Db%20', Buffer.from([0, 255]).toString('base64').replaceAll('=', '')),
        paxRecord('LIBARCHIVE.xattr.user.x', 'AAAA'),
        paxRecord('SCHILY.xattr.user.x', 'raw'),
        paxRecord('SCHILY.xattr.user.empty', ''),
      ]),
      0,
    );
    expect(new Map(xattrsOf(records))).toEqual(
      new Map([
        [key('user.a=b '), Buffer.from([0, 255])],
        [key('user.x'), Buffer.from('raw')],
        [key('user.empty'), Buffer.alloc(0)],
      ]),
    );
  });

  it.each(['user.plain', 'user.a=b', 'user.ü=%41', 'security.capability'])(
    'writes %s so that it reads back',
    (name) => {
      const bytes = byteStringFromText(name);
      const value = Buffer.from([1, 0, 10, 255]);
      const records = parsePaxRecords(formatXattrRecord(bytes, value), 0);
      expect(xattrsOf(records).get(bytes)).toEqual(value);
    },
  );
});
