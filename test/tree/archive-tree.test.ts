import { describe, expect, it } from 'vitest';
import type { TarEntry } from '../../src/tar/entry.ts';
import { readTar } from '../../src/tar/reader.ts';
import { archiveTree } from '../../src/tree/archive-tree.ts';
import { TreeError } from '../../src/tree/errors.ts';
import type { Tree } from '../../src/tree/tree.ts';
import { treeEntries } from '../../src/tree/tree-entries.ts';
import { walk } from '../../src/tree/walk.ts';
import { nodeAt, type Short, shortLayer } from '../support/short-layers.ts';
import { archive, oldGnuSparse } from '../support/tar-builder.ts';

function treeOf(...layer: Short[]): Tree {
  const { entries, streamSize } = shortLayer(layer);
  return archiveTree(entries, { streamSize: streamSize as number });
}

/** Directories end in `/`, those without an entry in `/?`. */
function listing(tree: Tree): string[] {
  return [...walk(tree)].map(({ path, node }) => {
    const implied = node.xattrs.get('trusted.peel.implied' as never);
    if (implied !== undefined) expect(implied).toHaveLength(0);
    return node.type === 'dir' ? `${path}/${implied === undefined ? '' : '?'}` : path;
  });
}

/** The entries of the tree in the words of `Short`. */
function shorts(tree: Tree): string[] {
  return treeEntries(tree).map(({ path, type, link }) => {
    if (type === 'dir') return path.endsWith('/') ? path : `${path}/`;
    if (type === 'symlink') return `${path} -> ${link}`;
    return type === 'hardlink' ? `${path} = ${link}` : path;
  });
}

function failureOf(work: () => unknown): TreeError {
  try {
    work();
  } catch (error) {
    if (error instanceof TreeError) return error;
    throw error;
  }
  throw new Error('accepted');
}

describe('archiveTree', () => {
  it.each<[string, Short[], string[]]>([
    ['members by their paths', ['./', './b', '/a/', 'a//./c'], ['/', 'a/', 'a/c', 'b']],
    ['directories that nobody describes', ['a/b/c', 'd/'], ['/?', 'a/?', 'a/b/?', 'a/b/c', 'd/']],
    ['whiteouts', ['a/', 'a/.wh.b', 'a/.wh..wh..opq'], ['/?', 'a/', 'a/.wh..wh..opq', 'a/.wh.b']],
    [
      'no bookkeeping of AUFS',
      ['.wh..wh.plnk/', '.wh..wh.plnk/x = no', 'd/', 'd/.wh..wh.y', '.wh..wh.aufs'],
      ['/?', 'd/'],
    ],
    ['links by themselves', ['d/', 'l -> d', 'm -> /no/where'], ['/?', 'd/', 'l', 'm']],
    ['nothing', [], ['/?']],
  ])('holds %s', (_, layer, expected) => expect(listing(treeOf(...layer))).toEqual(expected));

  it('holds whiteouts of any kind as empty files', () => {
    const tree = treeOf(
      { path: '.wh.a', type: 'dir', uid: 7 },
      '.wh.b = no',
      { path: '.wh.c', data: 'data' },
      '.wh.d -> x',
    );
    for (const name of ['.wh.a', '.wh.b', '.wh.c', '.wh.d'])
      expect(nodeAt(tree, name)).toMatchObject({ type: 'file', size: 0, extents: [], link: '', nlink: 1 });
    expect(nodeAt(tree, '.wh.a').uid).toBe(7);
  });

  it('holds what the last entry of a path says, with all in a directory', () => {
    const tree = treeOf({ path: 'd', type: 'dir', mode: 0o700 }, 'd/x', { path: 'f', data: '1' }, 'f -> x', {
      path: 'd/',
      type: 'dir',
      mode: 0o711,
      xattrs: { 'user.x': '1' },
    });
    expect(nodeAt(tree, 'd')).toMatchObject({ mode: 0o711, xattrs: new Map([['user.x', Buffer.from('1')]]) });
    expect(nodeAt(tree, 'd/x')).toMatchObject({ type: 'file' });
    expect(nodeAt(tree, 'f')).toMatchObject({ type: 'symlink', link: 'x', mode: 0o777, size: 1 });
  });

  it('holds hard links as names of one file, with the attributes of the first', () => {
    const tree = treeOf(
      'd/',
      { path: 'd/a', data: 'x', uid: 3 },
      { path: 'b', type: 'hardlink', link: './d/a', uid: 4 },
    );
    expect(nodeAt(tree, 'b')).toBe(nodeAt(tree, 'd/a'));
    expect(nodeAt(tree, 'b')).toMatchObject({ uid: 3, nlink: 2, size: 1 });
  });

  it('keeps the order of the archive, of which replaced entries are no part', () => {
    const tree = treeOf('z/', 'z/f', 'y', 'y', 'a/', 'a/b', './');
    const order = [...(tree.order as ReadonlyMap<object, number>).values()];
    expect(order).toEqual([1, 2, 3, 4, 5, 6]);
    expect(shorts(tree)).toEqual(['./', 'z/', 'z/f', 'y', 'a/', 'a/b']);
  });

  it('joins runs of data that follow each other', () => {
    const tar = archive(
      oldGnuSparse(
        's',
        4096,
        [
          [512, 512],
          [1024, 512],
          [2048, 512],
        ],
        Buffer.alloc(1536),
      ),
    );
    const tree = archiveTree(readTar(tar), { streamSize: tar.length });
    expect(nodeAt(tree, 's').extents).toEqual([
      { layer: 0, fileOffset: 512, streamOffset: 512, size: 1024 },
      { layer: 0, fileOffset: 2048, streamOffset: 1536, size: 512 },
    ]);
    expect(treeEntries(tree)).toMatchObject([
      { path: 's', sparse: true, size: 4096, headerOffset: 512, dataOffset: 512 },
    ]);
  });

  it.each<[string, Short[], string, string]>([
    [
      'a path through a link',
      ['d/', 'l -> d', './l/x'],
      'ERR_TREE_PARENT',
      'entry ./l/x of the layer is below l, which is no',
    ],
    ['a path through a file', ['f', 'f/x'], 'ERR_TREE_PARENT', 'is below f, which is no directory in the layer'],
    ['a whiteout through a link', ['d/', 'l -> d', 'l/.wh.x'], 'ERR_TREE_PARENT', 'is below l'],
    [
      'a path through a whiteout',
      ['.wh.a/', '.wh.a/x'],
      'ERR_TREE_WHITEOUT',
      'entry .wh.a/x of the layer is below a whiteout',
    ],
    [
      'a whiteout through a whiteout',
      ['.wh.a/', '.wh.a/.wh.x'],
      'ERR_TREE_PARENT',
      'is below .wh.a, which is no directory',
    ],
    ['a whiteout below nothing', ['.wh.a/.wh.x'], 'ERR_TREE_WHITEOUT', 'is below a whiteout'],
    ['a whiteout of nothing', ['.wh.'], 'ERR_TREE_WHITEOUT', 'is a whiteout of nothing'],
    ['a whiteout of all', ['d/', 'd/.wh...'], 'ERR_TREE_WHITEOUT', 'is a whiteout of nothing'],
    [
      'a hard link to what is not here',
      ['b = a'],
      'ERR_TREE_HARDLINK',
      'is a hard link to a, which is not in the layer before it',
    ],
    ['a hard link to what comes later', ['b = a', 'a'], 'ERR_TREE_HARDLINK', 'which is not in the layer'],
    [
      'a hard link through a link',
      ['d/', 'd/a', 'l -> d', 'b = l/a'],
      'ERR_TREE_HARDLINK',
      'hard link to l/a, which is not',
    ],
    ['a hard link to a directory', ['d/', 'b = d/'], 'ERR_TREE_HARDLINK', 'a directory'],
    ['a hard link to a whiteout', ['.wh.a', 'b = .wh.a'], 'ERR_TREE_HARDLINK', 'which is not in the layer'],
    ['a hard link to itself', ['a', './a = a'], 'ERR_TREE_HARDLINK', 'itself'],
    ['a hard link out of the tree', ['b = ../a'], 'ERR_TREE_PATH', '".."'],
    [
      'a name in place of one of several',
      ['a', 'b = a', 'a'],
      'ERR_TREE_HARDLINK',
      'a file before it that has several names',
    ],
    [
      'a directory in place of a file',
      ['a', 'a/'],
      'ERR_TREE_BELOW',
      'entry a/ of the layer takes the place of something',
    ],
    ['a file in place of a directory', ['a/', 'a'], 'ERR_TREE_BELOW', 'takes the place of a directory before it'],
    ['a hard link in place of a directory', ['f', 'a/', 'a = f'], 'ERR_TREE_BELOW', 'takes the place of a directory'],
    ['a directory behind what is in it', ['a/b', 'a/'], 'ERR_TREE_BELOW', 'comes after something that is in it'],
    ['a file at the root', [{ path: './', data: '' }], 'ERR_TREE_PATH', 'has no name'],
    ['a link to nothing', ['a -> '], 'ERR_TREE_SYMLINK', 'entry a of the layer is a symbolic link without a target'],
    [
      'a device that was a whiteout',
      [{ path: 'w', type: 'char' }, 'w'],
      'ERR_TREE_DEVICE',
      'takes the place of the character device 0:0',
    ],
    [
      'the mark itself',
      [{ path: 'd', type: 'dir', xattrs: { 'trusted.peel.implied': '' } }],
      'ERR_TREE_VALUE',
      'attribute trusted.peel.implied has a meaning',
    ],
    [
      'attributes that get lost',
      [{ path: 'f', xattrs: { 'com.apple.provenance': 'x' } }],
      'ERR_TREE_VALUE',
      'entry f of the layer: extended attribute com.apple.provenance is in no name space',
    ],
    [
      'a device past 12 and 20 bits',
      [{ path: 'c', type: 'char', minor: 2 ** 20 }],
      'ERR_TREE_VALUE',
      'device 0:1048576',
    ],
  ])('refuses %s', (_, layer, code, message) => {
    const failure = failureOf(() => treeOf(...layer));
    expect(failure.code).toBe(code);
    expect(failure.message).toContain(message);
  });

  it('refuses data off the grid, past the stream or over each other', () => {
    const { entries, streamSize } = shortLayer(['a', 'b']);
    const [a, b] = entries as [TarEntry, TarEntry];
    const codeOf = (some: TarEntry[], size = streamSize as number) =>
      failureOf(() => archiveTree(some, { streamSize: size })).code;
    const odd = { ...a, dataOffset: 513, extents: [{ fileOffset: 0, streamOffset: 513, size: 1 }] };
    expect(codeOf([odd])).toBe('ERR_TREE_UNALIGNED');
    expect(codeOf([a], 512)).toBe('ERR_TREE_EXTENT');
    expect(codeOf([a, { ...b, headerOffset: 0 }])).toBe('ERR_TREE_EXTENT');
    expect(codeOf([{ ...a, mtimeNs: 0.5 }])).toBe('ERR_TREE_VALUE');
  });

  it.each([
    ['implied directories', 'a/b/c'],
    ['hard links', 'a', 'b = a', 'c = a'],
  ])('bounds names: %s', (_, ...layer) => {
    const { entries } = shortLayer(layer);
    const limited = (maxNames: number) => archiveTree(entries, { streamSize: 1 << 20, maxNames });
    expect(listing(limited(3))).toHaveLength(4);
    expect(failureOf(() => limited(2)).code).toBe('ERR_TREE_LIMIT');
  });

  it('does no square work for deep paths', () => {
    const layer = shortLayer([`${'d/'.repeat(20_000)}a`, `${'d/'.repeat(20_000)}b`]);
    expect(shorts(archiveTree(layer.entries, { streamSize: 1 << 20 }))).toHaveLength(2);
  });
});

describe('archiveTree: a layer that leaves out directories', () => {
  it.each<[string, string[]]>([
    ['in any order', ['p/x', 'b', 'a/', 'a/y -> z', 'p/.wh.o', 'q/.wh.a']],
    ['with a described root', ['p/x', './', 'a']],
    ['with hard links behind all else', ['p/x', 'b', 'p/y = p/x']],
  ])('keeps its order %s', (_, layer) => {
    const ordinary = layer.filter((one) => one !== './' && !one.includes('.wh.'));
    const kept = shorts(treeOf(...layer)).filter((one) => one !== './' && !one.includes('.wh.'));
    expect(kept).toEqual(ordinary);
  });

  it.each<[string, Short[], string]>([
    ['a path that comes again', ['p/x', 'a', 'a'], 'entry a of the layer comes again, and the directory of p/x'],
    ['a directory that comes again', ['a/', 'p/x', 'a/'], 'entry a/ of the layer comes again'],
    ['a whiteout that comes again', ['p/.wh.x', 'p/.wh.x'], 'entry p/.wh.x of the layer comes again'],
    ['a hard link before other entries', ['p/x', 'y = p/x', 'z'], 'entry p/x of the layer would stand elsewhere'],
    [
      'a hard link to a further name',
      ['p/x', 'y = p/x', 'z = y'],
      'of the layer would stand elsewhere among the entries',
    ],
    ['whiteouts in another order', ['p/.wh.a', '.wh.b', 'p/x'], 'of the layer would stand elsewhere among the entries'],
  ])('refuses %s', (_, layer, message) => {
    const failure = failureOf(() => treeOf(...layer));
    expect(failure.code).toBe('ERR_TREE_BELOW');
    expect(failure.message).toContain(message);
    // With all directories there is nothing to refuse.
    const directories: Short[] = ['p/'];
    expect(shorts(treeOf(...directories, ...layer)).length).toBeGreaterThan(1);
  });
});
