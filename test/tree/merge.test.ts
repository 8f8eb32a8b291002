import { describe, expect, it } from 'vitest';
import type { TarEntry } from '../../src/tar/entry.ts';
import { readTar } from '../../src/tar/reader.ts';
import { TreeError } from '../../src/tree/errors.ts';
import { mergeLayers, type MergeOptions } from '../../src/tree/merge.ts';
import type { Tree } from '../../src/tree/tree.ts';
import { walk } from '../../src/tree/walk.ts';
import type { ByteString } from '../../src/util/byte-string.ts';
import { describeShort, nodeAt, type Short, shortLayer } from '../support/short-layers.ts';
import { archive } from '../support/tar-builder.ts';
import { tarOf } from '../support/tar-members.ts';

function merged(layers: Short[][], options?: MergeOptions): Tree {
  return mergeLayers(layers.map(shortLayer), options);
}

function listing(tree: Tree): string[] {
  return [...walk(tree)].slice(1).map(({ path, node }) => {
    if (node.type === 'dir') return `${path}/`;
    if (node.type === 'symlink') return `${path} -> ${node.link}`;
    return `${path}${node.extents.map(({ layer }) => `@${layer}`).join('')}${node.nlink > 1 ? ` x${node.nlink}` : ''}`;
  });
}

const names = (...layers: Short[][]): string[] => listing(merged(layers));

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof TreeError) return error.code;
    throw error;
  }
  return 'accepted';
}

describe('mergeLayers: one layer', () => {
  it('cleans paths', () => {
    expect(names(['./a', '/b', '//c', './/./d/', 'e//f', 'g/./h'])).toEqual([
      'a@0',
      'b@0',
      'c@0',
      'd/',
      'e/',
      'e/f@0',
      'g/',
      'g/h@0',
    ]);
  });

  it('makes missing parents 0755, of root, from the epoch', () => {
    const tree = merged([['a/b/c']]);
    expect(nodeAt(tree, 'a/b')).toMatchObject({ type: 'dir', mode: 0o755, uid: 0, gid: 0, mtime: 0, nlink: 2 });
    expect(nodeAt(tree, 'a').nlink).toBe(3);
  });

  it('describes the root', () => {
    const tree = merged([[{ path: './', type: 'dir', mode: 0o700, uid: 7, mtime: 5 }]]);
    expect(tree.root).toMatchObject({ mode: 0o700, uid: 7, mtime: 5, nlink: 2 });
  });

  it('lets the later entry of a path win', () => {
    expect(names(['a', 'a/', 'a/b', 'c/', 'c/d', 'c'])).toEqual(['a/', 'a/b@0', 'c@0']);
    expect(nodeAt(merged([['a', { path: 'a', data: 'longer', mode: 0o600 }]]), 'a')).toMatchObject({
      size: 6,
      mode: 0o600,
    });
  });

  it('keeps children and replaces attributes, xattrs too, when a directory comes again', () => {
    const tree = merged([
      [
        { path: 'd', type: 'dir', mode: 0o700, xattrs: { 'user.x': '1' } },
        'd/f',
        { path: 'd/', type: 'dir', mtime: 9 },
      ],
    ]);
    expect(nodeAt(tree, 'd')).toMatchObject({ mode: 0o755, mtime: 9, xattrs: new Map() });
    expect(listing(tree)).toEqual(['d/', 'd/f@0']);
  });

  it('follows links among the parents inside the tree', () => {
    expect(
      names(['usr/lib/', 'lib -> usr/lib', 'lib/x', 'abs -> /usr', 'abs/lib/y', 'up -> ../../../usr/../usr', 'up/z']),
    ).toEqual([
      'abs -> /usr',
      'lib -> usr/lib',
      'up -> ../../../usr/../usr',
      'usr/',
      'usr/lib/',
      'usr/lib/x@0',
      'usr/lib/y@0',
      'usr/z@0',
    ]);
  });

  it('makes what a dangling link among the parents leads to', () => {
    expect(names(['lib -> /usr/new/lib', 'lib/x'])).toEqual([
      'lib -> /usr/new/lib',
      'usr/',
      'usr/new/',
      'usr/new/lib/',
      'usr/new/lib/x@0',
    ]);
  });

  it('replaces a link by a directory of the same path', () => {
    expect(names(['real/', 'd -> real', 'd/', 'd/x'])).toEqual(['d/', 'd/x@0', 'real/']);
  });

  it('shares the inode of hard links and counts names', () => {
    const tree = merged([['a', 'd/b = a', 'c = ./d/b', 'l -> a', 'm = l', 'b2 = /a']]);
    expect(nodeAt(tree, 'a')).toBe(nodeAt(tree, 'd/b'));
    expect(nodeAt(tree, 'a').nlink).toBe(4);
    expect(nodeAt(tree, 'm')).toBe(nodeAt(tree, 'l'));
  });

  it('leaves the other names of a hard linked file alone when one is replaced', () => {
    const tree = merged([['a', 'b = a', { path: 'a', data: 'new one' }]]);
    expect(nodeAt(tree, 'b')).toMatchObject({ nlink: 1, size: 1 });
    expect(nodeAt(tree, 'a').size).toBe(7);
  });

  it('keeps the attributes of a hard link target', () => {
    const tree = merged([
      [
        { path: 'a', mode: 0o755, xattrs: { 'user.x': '1' } },
        { path: 'b', type: 'hardlink', link: 'a', mode: 0o600 },
      ],
    ]);
    expect(nodeAt(tree, 'b')).toMatchObject({ mode: 0o755, xattrs: new Map([['user.x', Buffer.from('1')]]) });
  });

  it('gives symbolic links the mode that Linux gives them', () => {
    expect(nodeAt(merged([['l -> x']]), 'l').mode).toBe(0o777);
  });

  it.each<[string, Short[], string]>([
    ['.. in front', ['../a'], 'ERR_TREE_PATH'],
    ['.. inside', ['a/../b'], 'ERR_TREE_PATH'],
    ['.. behind', ['a/..'], 'ERR_TREE_PATH'],
    ['a file for the root', [{ path: './' }], 'ERR_TREE_PATH'],
    ['a name of 256 bytes', ['n'.repeat(256)], 'ERR_TREE_PATH'],
    ['a path of 66 000 bytes', ['n/'.repeat(33_000)], 'ERR_TREE_LIMIT'],
    ['a file below a file', ['a', 'a/b'], 'ERR_TREE_PARENT'],
    ['a file below a link to a file', ['a', 'l -> a', 'l/b'], 'ERR_TREE_PARENT'],
    ['a loop of links', ['a -> b', 'b -> a', 'a/x'], 'ERR_TREE_LOOP'],
    ['a link to itself', ['a -> a', 'a/x'], 'ERR_TREE_LOOP'],
    ['a link without target', ['a -> '], 'ERR_TREE_SYMLINK'],
    ['a link of 4096 bytes', [`a -> ${'l'.repeat(4096)}`], 'ERR_TREE_SYMLINK'],
    ['a missing hard link target', ['a = b'], 'ERR_TREE_HARDLINK'],
    ['a hard link to a later entry', ['a = b', 'b'], 'ERR_TREE_HARDLINK'],
    ['a cycle of hard links', ['a = b', 'b = a'], 'ERR_TREE_HARDLINK'],
    ['a hard link to itself', ['a', 'a = a'], 'ERR_TREE_HARDLINK'],
    ['a hard link to a directory', ['a/', 'b = a'], 'ERR_TREE_HARDLINK'],
    ['a hard link to the root', ['b = /'], 'ERR_TREE_HARDLINK'],
    ['a hard link out of the tree', ['b = ../etc/passwd'], 'ERR_TREE_PATH'],
    ['a whiteout of nothing', ['.wh.'], 'ERR_TREE_WHITEOUT'],
    ['a whiteout of ..', ['a/.wh...'], 'ERR_TREE_WHITEOUT'],
  ])('refuses %s', (_, layer, code) => {
    expect(codeOf(() => merged([layer]))).toBe(code);
  });

  it('refuses NUL bytes in names and targets', () => {
    const read = (pax: Record<string, string>, flag = '0') =>
      mergeLayers([{ entries: readTar(archive({ name: 'x', flag, pax })) }]);
    expect(codeOf(() => read({ path: 'a\0b' }))).toBe('ERR_TREE_PATH');
    expect(codeOf(() => read({ linkpath: 'a\0b' }, '2'))).toBe('ERR_TREE_SYMLINK');
  });

  it('names the entry as it stands in the archive, and the layer', () => {
    expect(() => merged([['a'], ['./x/../\u0001']])).toThrow(
      'entry ./x/../\\x01 of layer 1: the path leaves the tree through ".."',
    );
    expect(() => merged([['a = ./b']])).toThrow('entry a of layer 0 is a hard link to ./b, which is not there');
  });

  it('bounds nodes, parents included, and links followed', () => {
    expect(codeOf(() => merged([['a/b/c/d']], { maxNodes: 3 }))).toBe('ERR_TREE_LIMIT');
    expect(codeOf(() => merged([['a/b/c/d']], { maxNodes: 4 }))).toBe('accepted');
    const chain = Array.from({ length: 200 }, (_, i) => `l${i} -> ${'./'.repeat(2000)}l${i + 1}`);
    const entries = readTar(
      tarOf(...[...chain, 'l200/', ...Array.from({ length: 100 }, (_, i) => `l0/f${i}`)].map(describeShort)),
    );
    expect(codeOf(() => mergeLayers([{ entries }]))).toBe('ERR_TREE_LIMIT');
  });

  it('takes paths of tens of thousands of components', () => {
    const tree = merged([[`${'d/'.repeat(30_000)}f`]]);
    expect([...walk(tree)]).toHaveLength(30_002);
  });
});

describe('mergeLayers: several layers', () => {
  it('replaces, keeps and adds', () => {
    expect(names(['a', 'b', 'd/', 'd/x'], ['b', 'd/', 'd/y'], ['c'])).toEqual([
      'a@0',
      'b@1',
      'c@2',
      'd/',
      'd/x@0',
      'd/y@1',
    ]);
  });

  it.each([
    ['before', ['.wh.d', 'd/', 'd/new']],
    ['behind', ['d/', 'd/new', '.wh.d']],
  ])('whites out what lies below only, the whiteout standing %s', (_, layer) => {
    expect(names(['d/', 'd/old', 'e'], layer)).toEqual(['d/', 'd/new@1', 'e@0']);
  });

  it.each([
    ['before', ['d/', 'd/.wh..wh..opq', 'd/new']],
    ['behind', ['d/', 'd/new', 'd/.wh..wh..opq']],
    ['without the directory', ['d/new', 'd/.wh..wh..opq']],
  ])('hides lower children of opaque directories, the marker standing %s', (_, layer) => {
    expect(names(['d/', 'd/old', 'd/sub/', 'd/sub/x', 'e'], layer)).toEqual(['d/', 'd/new@1', 'e@0']);
  });

  it('keeps attributes of lower directories that a layer only passes through', () => {
    const tree = merged([[{ path: 'tmp', type: 'dir', mode: 0o1777 }], ['tmp/f']]);
    expect(nodeAt(tree, 'tmp').mode).toBe(0o1777);
  });

  it('ignores whiteouts of what is not there', () => {
    expect(names(['a'], ['.wh.nothing', 'no/such/.wh.dir', 'a/.wh.x', 'no/.wh..wh..opq'])).toEqual(['a@0']);
  });

  it('follows lower links on the way to a whiteout', () => {
    expect(names(['usr/lib/', 'usr/lib/x', 'lib -> usr/lib'], ['lib/.wh.x'])).toEqual([
      'lib -> usr/lib',
      'usr/',
      'usr/lib/',
    ]);
  });

  it('does not white out through a link that the layer replaces by a directory', () => {
    expect(names(['usr/lib/', 'usr/lib/x', 'lib -> usr/lib'], ['lib/', 'lib/.wh..wh..opq', 'lib/y'])).toEqual([
      'lib/',
      'lib/y@1',
      'usr/',
      'usr/lib/',
      'usr/lib/x@0',
    ]);
  });

  it('links to files of lower layers, which live on when their name is gone', () => {
    expect(names(['a'], ['b = a'], ['.wh.a'])).toEqual(['b@0']);
    expect(names(['a'], ['b = a'])).toEqual(['a@0 x2', 'b@0 x2']);
  });

  it('refuses a hard link to what the same layer whites out', () => {
    expect(codeOf(() => merged([['a'], ['b = a', '.wh.a']]))).toBe('ERR_TREE_HARDLINK');
  });

  it('passes over the bookkeeping of AUFS', () => {
    expect(names(['.wh..wh.plnk/', '.wh..wh.plnk/1.2', '.wh..wh.aufs', 'a'])).toEqual(['a@0']);
  });

  it('brings back what an earlier layer deleted', () => {
    expect(names(['d/', 'd/x'], ['.wh.d'], ['d/y'])).toEqual(['d/', 'd/y@2']);
  });
});

describe('mergeLayers: untrusted offsets', () => {
  const [plain] = readTar(tarOf({ path: 'f', data: Buffer.alloc(2000) })) as [TarEntry];
  const refused = (change: Partial<TarEntry>, streamSize?: number): string =>
    codeOf(() => mergeLayers([{ entries: [{ ...plain, ...change }], streamSize }]));
  const extent = { fileOffset: 0, streamOffset: 512, size: 2000 };

  it('accepts what a tar says', () => expect(refused({}, 2512)).toBe('accepted'));

  it.each<[string, Partial<TarEntry>]>([
    ['data over the own header', { extents: [{ ...extent, streamOffset: 0 }] }],
    ['data past the end of the file', { size: 1999 }],
    ['negative offsets', { extents: [{ ...extent, streamOffset: -512 }], dataOffset: -512, headerOffset: -1024 }],
    ['fractions', { extents: [{ ...extent, fileOffset: 0.5 }] }],
    ['not-a-number', { extents: [{ ...extent, size: Number.NaN }] }],
    ['empty extents', { extents: [{ ...extent, size: 0 }] }],
    ['overlapping extents', { size: 4000, extents: [extent, { ...extent, fileOffset: 1000, streamOffset: 2512 }] }],
    ['extents over each other', { size: 4000, extents: [extent, { ...extent, fileOffset: 2000 }] }],
    ['a header behind the data', { headerOffset: 1024 }],
  ])('refuses %s', (_, change) => expect(refused(change)).toBe('ERR_TREE_EXTENT'));

  it('refuses data past the stream', () => {
    expect(refused({}, 2511)).toBe('ERR_TREE_EXTENT');
  });

  it('refuses entries over each other, in any order', () => {
    const other = { ...plain, path: 'g' as ByteString, headerOffset: 1024, dataOffset: 1536, extents: [], size: 0 };
    expect(codeOf(() => mergeLayers([{ entries: [plain, other] }]))).toBe('ERR_TREE_EXTENT');
    const far = { ...other, headerOffset: 8192, dataOffset: 8704 };
    expect(codeOf(() => mergeLayers([{ entries: [far, plain] }]))).toBe('accepted');
  });
});
