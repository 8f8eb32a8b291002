import { describe, expect, it } from 'vitest';
import { modeString, octalMode } from '../../src/cli/file-mode.ts';
import { humanBytes, humanDuration, percent, shortDigest } from '../../src/cli/human.ts';
import { rfc3339 } from '../../src/cli/node-json.ts';
import { parseSize } from '../../src/cli/options.ts';
import { tableLines } from '../../src/cli/table.ts';

describe('sizes, times and tables for people', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [10_189, '10 KiB'],
    [1024 * 1024 - 1, '1.0 MiB'],
    [320 * 2 ** 20, '320 MiB'],
    [5e9, '4.7 GiB'],
  ])('%d bytes are %s', (bytes, text) => expect(humanBytes(bytes)).toBe(text));

  it.each([
    [0.4, '0 ms'],
    [999, '999 ms'],
    [1234, '1.2 s'],
    [59_960, '1 m 0 s'],
    [200_000, '3 m 20 s'],
    [3_599_600, '1 h 0 m'],
    [18_640_000, '5 h 10 m'],
    [1_047_600_000, '12 d 3 h'],
  ])('%d ms are %s', (ms, text) => expect(humanDuration(ms)).toBe(text));

  it('never claims an end of the scale by rounding', () => {
    expect([percent(0, 10), percent(1, 1000), percent(999, 1000), percent(10, 10), percent(0, 0)]).toEqual([
      '0 %',
      '<1 %',
      '99 %',
      '100 %',
      '100 %',
    ]);
  });

  it.each([
    ['4194304', 4_194_304],
    ['4MiB', 4_194_304],
    ['4M', 4_194_304],
    ['256k', 262_144],
    ['1.5 GB', 1_610_612_736],
  ])('reads the size %s', (text, bytes) => expect(parseSize(text)).toBe(bytes));

  it.each(['', 'x', '-1', '4MM', '1e9', '99999999T'])('refuses the size %j', (text) => {
    expect(() => parseSize(text)).toThrow(/size/);
  });

  it.each([
    ['dir', 0o1777, 'drwxrwxrwt', '1777'],
    ['file', 0o4755, '-rwsr-xr-x', '4755'],
    ['file', 0o2644, '-rw-r-Sr--', '2644'],
    ['symlink', 0o777, 'lrwxrwxrwx', '0777'],
    ['char', 0o600, 'crw-------', '0600'],
  ] as const)('prints the mode of a %s %o as ls does', (type, mode, letters, octal) => {
    expect([modeString(type, mode), octalMode(mode)]).toEqual([letters, octal]);
  });

  it('prints times with their nanoseconds', () => {
    expect(rfc3339(0, 1)).toBe('1970-01-01T00:00:00.000000001Z');
    expect(rfc3339(-1, 0)).toBe('1969-12-31T23:59:59Z');
    expect(rfc3339(1e15, 0)).toBe('@1000000000000000');
  });

  it('aligns columns by what they take on a terminal', () => {
    const columns = [{ title: 'NAME' }, { title: 'SIZE', align: 'right' as const }];
    expect(
      tableLines(columns, [
        ['漢字', '1 B'],
        ['é', '12 B'],
      ]),
    ).toEqual(['NAME  SIZE', '漢字   1 B', 'é     12 B']);
  });

  it('shortens a digest', () =>
    expect(shortDigest(`sha256:${'0123456789'.repeat(6)}0123`)).toBe('sha256:012345678901'));
});
