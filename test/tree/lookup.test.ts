import { describe, expect, it } from 'vitest';
import { readTar } from '../../src/tar/reader.ts';
import { lookup } from '../../src/tree/lookup.ts';
import { mergeLayers } from '../../src/tree/merge.ts';
import { walk } from '../../src/tree/walk.ts';
import { type ByteString, byteStringFromText } from '../../src/util/byte-string.ts';
import { tarOf } from '../support/tar-members.ts';

const tree = mergeLayers([
  {
    entries: readTar(
      tarOf(
        { path: 'usr/bin/tool', data: 'tool' },
        { path: 'bin', type: 'symlink', link: 'usr/bin' },
        { path: 'usr/bin/alias', type: 'symlink', link: '/bin/tool' },
        { path: 'out', type: 'symlink', link: '../../../usr' },
        { path: 'loop', type: 'symlink', link: 'loop' },
        { path: 'dangling', type: 'symlink', link: 'nowhere' },
        { path: 'hard', type: 'hardlink', link: 'usr/bin/tool' },
      ),
    ),
  },
]);
const type = (path: string, follow?: boolean): string | undefined =>
  lookup(tree, byteStringFromText(path), follow === undefined ? {} : { follow })?.type;

describe('lookup', () => {
  it.each([
    ['', 'dir'],
    ['/', 'dir'],
    ['.', 'dir'],
    ['..', 'dir'],
    ['usr/bin/tool', 'file'],
    ['/usr//bin/./tool', 'file'],
    ['usr/bin/../../bin/tool', 'file'],
    ['bin/alias', 'file'],
    ['out/bin/tool', 'file'],
    ['bin/', 'dir'],
    ['usr/bin/tool/', undefined],
    ['usr/bin/tool/x', undefined],
    ['usr/none', undefined],
    ['dangling', undefined],
  ])('%j is %s', (path, expected) => expect(type(path)).toBe(expected));

  it('does not follow the last link when told so', () => {
    expect(type('bin', false)).toBe('symlink');
    expect(type('bin/alias', false)).toBe('symlink');
    expect(type('dangling', false)).toBe('symlink');
    expect(type('bin/', false)).toBe('dir');
  });

  it('refuses loops', () => {
    expect(() => type('loop')).toThrow('loop: too many symbolic links');
  });
});

describe('walk', () => {
  it('visits every name in byte order, parents first', () => {
    expect([...walk(tree)].map(({ path }) => path)).toEqual([
      '',
      'bin',
      'dangling',
      'hard',
      'loop',
      'out',
      'usr',
      'usr/bin',
      'usr/bin/alias',
      'usr/bin/tool',
    ]);
  });

  it('starts where it is told', () => {
    const usr = lookup(tree, 'usr' as ByteString);
    expect([...walk(tree, usr)].map(({ path }) => path)).toEqual(['', 'bin', 'bin/alias', 'bin/tool']);
  });
});
