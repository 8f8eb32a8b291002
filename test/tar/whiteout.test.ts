import { describe, expect, it } from 'vitest';
import { whiteoutOf } from '../../src/tar/whiteout.ts';
import type { ByteString } from '../../src/util/byte-string.ts';

describe('whiteoutOf', () => {
  it.each([
    ['file', undefined],
    ['.wh', undefined],
    ['a.wh.b', undefined],
    ['.wh.file', { kind: 'name', name: 'file' }],
    ['.wh.', { kind: 'name', name: '' }],
    ['.wh..hidden', { kind: 'name', name: '.hidden' }],
    ['.wh..wh..opq', { kind: 'opaque' }],
    ['.wh..wh.plnk', { kind: 'meta' }],
  ])('%s', (name, whiteout) => expect(whiteoutOf(name as ByteString)).toEqual(whiteout));
});
