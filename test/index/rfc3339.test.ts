import { assert, integer, property, record } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatRfc3339, parseRfc3339 } from '../../src/index/rfc3339.ts';

describe('RFC 3339 times', () => {
  it.each<[string, number, number]>([
    ['1970-01-01T00:00:00Z', 0, 0],
    ['1969-12-31T23:59:59.5Z', -1, 500_000_000],
    ['2000-02-29T12:00:00.000000001Z', 951_825_600, 1],
    ['0000-01-01T00:00:00Z', -62_167_219_200, 0],
    ['0099-03-01T00:00:00Z', -59_037_897_600, 0],
    ['9999-12-31T23:59:59.999999999Z', 253_402_300_799, 999_999_999],
  ])('reads and writes %s', (written, seconds, nanoseconds) => {
    expect(parseRfc3339(written)).toEqual({ seconds, nanoseconds });
    expect(formatRfc3339({ seconds, nanoseconds })).toBe(written);
  });

  it('applies the zone', () => {
    expect(parseRfc3339('2024-01-01T02:30:00+02:30')).toEqual(parseRfc3339('2024-01-01T00:00:00Z'));
    expect(parseRfc3339('2023-12-31T19:00:00-05:00')).toEqual(parseRfc3339('2024-01-01T00:00:00Z'));
  });

  it.each([
    '',
    '2024-02-30T00:00:00Z',
    '2023-02-29T00:00:00Z',
    '2024-13-01T00:00:00Z',
    '2024-01-01T24:00:00Z',
    '2024-01-01T00:00:00',
    '2024-01-01 00:00:00Z',
    '12024-01-01T00:00:00Z',
    '2024-01-01T00:00:00.Z',
  ])('refuses %j', (text) => {
    expect(parseRfc3339(text)).toBeUndefined();
  });

  it('has no text for years of five digits or before year 0', () => {
    expect(formatRfc3339({ seconds: 253_402_300_800, nanoseconds: 0 })).toBeUndefined();
    expect(formatRfc3339({ seconds: -62_167_219_201, nanoseconds: 0 })).toBeUndefined();
  });

  it('reads back every time it writes', () => {
    const times = record({
      seconds: integer({ min: -62_167_219_200, max: 253_402_300_799 }),
      nanoseconds: integer({ min: 0, max: 999_999_999 }),
    });
    const readsBack = property(times, (time) => {
      expect(parseRfc3339(formatRfc3339(time) ?? '')).toEqual(time);
    });
    assert(readsBack, { numRuns: 2000 });
  });
});
