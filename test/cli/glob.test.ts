import { assert, pre, property, string } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { globMatcher } from '../../src/cli/glob.ts';
import { type ByteString, byteStringFromText } from '../../src/util/byte-string.ts';

const matches = (glob: string, path: string): boolean => globMatcher(glob)(byteStringFromText(path));

describe('globMatcher', () => {
  it.each<[string, string, boolean]>([
    ['*.so', '/usr/lib/libc.so', true],
    ['*.so', '/usr/lib/libc.so.6', false],
    ['libc*', '/usr/lib/libc.so.6', true],
    ['libc*', '/libc/x', false],
    ['/usr/*', '/usr/lib', true],
    ['/usr/*', '/usr/lib/x', false],
    ['usr/*', '/usr/lib', true],
    ['/usr/**', '/usr/lib/x', true],
    ['/**/x', '/usr/lib/x', true],
    ['/**/x', '/x', true],
    ['/usr/**/x', '/usr/x', true],
    ['/usr/**/x', '/usrx', false],
    ['?', '/ü', true],
    ['??', '/ü', false],
    ['?', '/usr', false],
    ['[a-c]', '/b', true],
    ['[!a-c]', '/b', false],
    ['[!a-c]', '/ü', true],
    ['[ü-ÿ]', '/ý', true],
    ['[]]', '/]', true],
    ['[a-]', '/-', true],
    ['/a[!x]b', '/a/b', false],
    ['/a[.-0]b', '/a/b', false],
    ['\\*', '/*', true],
    ['\\*', '/a', false],
    ['a.b', '/axb', false],
    ['.*', '/.profile', true],
    ['*', '/.profile', true],
    ['a\nb', '/a\nb', true],
    ['*', '/a\nb', true],
  ])('%j against %j: %j', (glob, path, expected) => {
    expect(matches(glob, path)).toBe(expected);
  });

  it('takes a stray byte of another encoding for one character', () => {
    expect(globMatcher('caf?')('/caf\xe9' as ByteString)).toBe(true);
    expect(globMatcher('caf?x')('/caf\xc3x' as ByteString)).toBe(true);
    expect(globMatcher('???')('/\xed\xa0\x80' as ByteString)).toBe(true);
    expect(globMatcher('caf[!a]')('/caf\xe9' as ByteString)).toBe(true);
  });

  it.each(['', '[a', 'a\\', '[z-a]'])('refuses %j as wrong usage', (glob) => {
    expect(() => globMatcher(glob)).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
  });

  it('matches every name quoted character by character', () => {
    assert(
      property(string({ minLength: 1, unit: 'grapheme' }), (name) => {
        const wellFormed = Buffer.from(name.replaceAll('/', '')).toString();
        pre(wellFormed !== '');
        const quoted = Array.from(wellFormed, (char) => `\\${char}`).join('');
        expect(matches(quoted, `/dir/${wellFormed}`)).toBe(true);
        expect(matches(quoted, `/dir/${wellFormed}x`)).toBe(false);
      }),
    );
  });
});
