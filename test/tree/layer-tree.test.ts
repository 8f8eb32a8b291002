import { describe, expect, it } from 'vitest';
import { TreeError } from '../../src/tree/errors.ts';
import { layerTree, type LayerTreeOptions, rootEntry } from '../../src/tree/layer-tree.ts';
import { mergeLayers } from '../../src/tree/merge.ts';
import type { Tree } from '../../src/tree/tree.ts';
import { walk } from '../../src/tree/walk.ts';
import { foldedLines, mergedLines } from '../support/overlay-fold.ts';
import { nodeAt, type Short, shortLayer } from '../support/short-layers.ts';

/** The tree of `layer` over `below`, lowest first. */
function over(below: Short[][], layer: Short[], options: Partial<LayerTreeOptions> = {}): Tree {
  return layerTree(shortLayer(layer), { below: mergeLayers(below.map(shortLayer)), ...options });
}

const alone = (...layer: Short[]): Tree => layerTree(shortLayer(layer), { below: 'unknown' });
const base = (...layer: Short[]): Tree => layerTree(shortLayer(layer), { below: 'nothing' });

/** Directories end in `/`, opaque ones in `/!`; whiteouts begin with `-`. */
function listing(tree: Tree): string[] {
  return [...walk(tree)].slice(1).map(({ path, node }) => {
    const opaque = [...node.xattrs.keys()].some((name) => name.endsWith('.overlay.opaque'));
    if (node.type === 'dir') return `${path}/${opaque ? '!' : ''}`;
    if (node.type === 'char' && node.devMajor === 0) return `-${path}`;
    return node.type === 'symlink' ? `${path} -> ${node.link}` : path;
  });
}

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof TreeError) return error.code;
    throw error;
  }
  return 'accepted';
}

describe('layerTree: a layer with all its parents', () => {
  it.each<[string, Short[], string[]]>([
    ['files and directories', ['a/', 'a/b', 'c'], ['a/', 'a/b', 'c']],
    ['a whiteout', ['.wh.a', 'd/', 'd/.wh.b'], ['-a', 'd/', '-d/b']],
    ['an opaque directory', ['d/', 'd/.wh..wh..opq', 'd/new'], ['d/!', 'd/new']],
    ['whiteouts that an opaque directory makes needless', ['d/', 'd/.wh..wh..opq', 'd/.wh.x'], ['d/!']],
    ['a whiteout of a file that comes anew', ['.wh.a', 'a'], ['a']],
    ['a whiteout of a link that comes anew', ['l -> x', '.wh.l'], ['l -> x']],
    ['a whiteout of a directory that comes anew', ['d/', 'd/x', '.wh.d'], ['d/!', 'd/x']],
    ['whiteouts below such a directory', ['.wh.d', 'd/', 'd/.wh.x'], ['d/!']],
    ['a directory where a file of this layer was', ['d', 'd/', 'd/x'], ['d/!', 'd/x']],
    ['bookkeeping of AUFS', ['.wh..wh.plnk/', '.wh..wh.plnk/1.2', '.wh..wh.plnk/.wh.x', 'a'], ['a']],
    ['hard links', ['a', 'd/', 'd/b = a', 'l -> d', 'c = l/b'], ['a', 'c', 'd/', 'd/b', 'l -> d']],
    ['nothing', [], []],
  ])('%s', (_, layer, expected) => {
    expect(listing(alone(...layer))).toEqual(expected);
  });

  it('marks whiteouts as devices 0:0 and keeps their directories from being listed as they are', () => {
    const tree = alone('.wh.a', 'd/', 'd/.wh.x', 'd/.wh.y', 'o/', 'o/.wh..wh..opq');
    expect(nodeAt(tree, 'a')).toMatchObject({ type: 'char', mode: 0, devMajor: 0, devMinor: 0, mtime: 0, nlink: 3 });
    expect(nodeAt(tree, 'd').xattrs).toEqual(new Map([['trusted.overlay.origin', Buffer.alloc(0)]]));
    expect(nodeAt(tree, 'o').xattrs).toEqual(new Map([['trusted.overlay.opaque', Buffer.from('y')]]));
    expect(tree.root.xattrs.size).toBe(0);
  });

  it('marks in the name space of users for userxattr', () => {
    const tree = layerTree(shortLayer(['d/', 'd/.wh.x', 'o/', 'o/.wh..wh..opq']), {
      below: 'unknown',
      userXattr: true,
    });
    expect([...nodeAt(tree, 'd').xattrs.keys(), ...nodeAt(tree, 'o').xattrs.keys()]).toEqual([
      'user.overlay.origin',
      'user.overlay.opaque',
    ]);
  });

  it('drops attributes that would steer overlayfs', () => {
    const xattrs = { 'trusted.overlay.redirect': '/etc', 'user.overlay.opaque': 'y', 'user.x': '1', 'trusted.x': '2' };
    const layer = shortLayer([
      { path: 'f', xattrs },
      { path: 'd', type: 'dir', xattrs: { 'trusted.overlay.opaque': 'y' } },
    ]);
    const names = (userXattr: boolean, below: 'nothing' | 'unknown') =>
      [...nodeAt(layerTree(layer, { below, userXattr }), 'f').xattrs.keys()].sort();
    for (const below of ['nothing', 'unknown'] as const) {
      expect(names(false, below)).toEqual(['trusted.x', 'user.overlay.opaque', 'user.x']);
      expect(names(true, below)).toEqual(['trusted.x', 'user.x']);
      expect(listing(layerTree(layer, { below }))).toEqual(['d/', 'f']);
    }
  });

  it.each<[string, Short[]]>([
    ['a missing parent', ['a/b']],
    ['a parent that comes later', ['a/b', 'a/']],
    ['a missing parent of a whiteout', ['a/.wh.b']],
    ['a missing parent of an opaque marker', ['a/.wh..wh..opq']],
    ['a parent that is a link of this layer', ['d/', 'l -> d', 'l/x']],
    ['a whiteout through a link of this layer', ['d/', 'l -> d', 'l/.wh.x']],
    ['a link in place of a directory', ['d/', 'd/x/', 'd -> e']],
    ['a hard link to something below', ['b = a']],
    ['a hard link through a link below', ['usr/', 'usr/a', 'b = lib/a']],
    ['a hard link to a directory that may be a link below', ['b = a', 'a/']],
    ['an opaque root', ['.wh..wh..opq', 'a']],
  ])('needs the layers below for %s', (_, layer) => {
    expect(codeOf(() => alone(...layer))).toBe('ERR_TREE_BELOW');
  });

  it('names the entry that needs them', () => {
    expect(() => alone('d/', './x/\u0001')).toThrow(
      'entry ./x/\\x01 of the layer has a parent directory that is not in the layer',
    );
    expect(() => alone('b = ./a')).toThrow('entry b of the layer is a hard link to ./a, which is not there');
  });
});

describe('layerTree: over the layers below', () => {
  it.each<[string, Short[][], Short[], string[]]>([
    ['missing parents', [['a/', 'a/b/', 'a/b/old']], ['a/b/new'], ['a/', 'a/b/', 'a/b/new']],
    ['parents missing everywhere', [['x']], ['a/b/c'], ['a/', 'a/b/', 'a/b/c']],
    ['a link among the parents', [['usr/lib/', 'lib -> usr/lib']], ['lib/x'], ['usr/', 'usr/lib/', 'usr/lib/x']],
    ['a link that leads nowhere', [['lib -> /new/lib']], ['lib/x'], ['new/', 'new/lib/', 'new/lib/x']],
    ['a whiteout below a missing parent', [['a/b/x', 'a/b/y']], ['a/b/.wh.x'], ['a/', 'a/b/', '-a/b/x']],
    ['a whiteout through a link', [['usr/lib/x', 'lib -> usr/lib']], ['lib/.wh.x'], ['usr/', 'usr/lib/', '-usr/lib/x']],
    [
      'whiteouts of what is not there',
      [['a', 'd/']],
      ['.wh.x', 'd/.wh.y', 'no/.wh.z', 'a/.wh.b', 'no/.wh..wh..opq'],
      [],
    ],
    ['an opaque marker without its directory', [['d/a']], ['d/.wh..wh..opq', 'd/new'], ['d/!', 'd/new']],
    [
      'a directory that was deleted, below a missing parent',
      [['a/d/x']],
      ['a/.wh.d', 'a/d/y'],
      ['a/', 'a/d/!', 'a/d/y'],
    ],
    ['a link replaced by a directory', [['u/x', 'l -> u']], ['l/', 'l/.wh.x', 'l/y'], ['l/', 'l/y']],
    ['a directory replaced by a file and again', [['d/x']], ['d', 'd/', 'd/y'], ['d/!', 'd/y']],
    ['a directory over a file', [['d']], ['d/', 'd/y'], ['d/', 'd/y']],
    ['a parent that comes later', [['r/', 'a -> r']], ['a/b', 'a/'], ['a/', 'r/', 'r/b']],
    ['an opaque root', [['a', 'd/x', 'e/y']], ['.wh..wh..opq', 'd/', 'd/n', 'b'], ['-a', 'b', 'd/!', 'd/n', '-e']],
    ['a hard link through a link below', [['lib -> usr']], ['usr/', 'usr/a', 'b = lib/a'], ['b', 'usr/', 'usr/a']],
  ])('%s', (_, below, layer, expected) => {
    const tree = over(below, layer);
    expect(listing(tree)).toEqual(expected);
    const merged = mergeLayers([...below, layer].map(shortLayer));
    const stack = [mergeLayers(below.map(shortLayer)), tree];
    expect(foldedLines(stack).map(ofAnyLayer)).toEqual(mergedLines(merged).map(ofAnyLayer));
  });

  it('gives parents that it does not bring the looks they have below', () => {
    const tmp = {
      path: 'tmp',
      type: 'dir',
      mode: 0o1777,
      uid: 5,
      gid: 6,
      mtime: 9,
      xattrs: { 'user.x': '1' },
    } as const;
    const lower = mergeLayers([shortLayer([tmp, { ...tmp, path: 'tmp/deep' }, 'tmp/old'])]);
    const before = mergedLines(lower);
    const tree = layerTree(shortLayer(['tmp/deep/f']), { below: lower });
    for (const path of ['tmp', 'tmp/deep']) {
      expect(nodeAt(tree, path)).toMatchObject({
        mode: 0o1777,
        uid: 5,
        gid: 6,
        mtime: 9,
        xattrs: new Map([['user.x', Buffer.from('1')]]),
      });
    }
    expect(nodeAt(tree, 'tmp').nlink).toBe(3);
    expect(mergedLines(lower)).toEqual(before);
    expect(nodeAt(over([['x']], ['a/b']), 'a')).toMatchObject({ mode: 0o755, uid: 0, gid: 0, mtime: 0 });
  });

  it.each<[string, Short[][], Short[], string]>([
    ['a hard link to a file below', [['a']], ['b = a'], 'ERR_TREE_LOWER_LINK'],
    ['a hard link to a file that nobody brings', [['x']], ['b = a'], 'ERR_TREE_HARDLINK'],
    ['a hard link to what the layer deletes', [['a']], ['b = a', '.wh.a'], 'ERR_TREE_HARDLINK'],
    ['a hard link to a directory below', [['a/']], ['b = a'], 'ERR_TREE_HARDLINK'],
    ['a device that is a whiteout', [], [{ path: 'w', type: 'char' }], 'ERR_TREE_DEVICE'],
    ['a file below a file', [['a']], ['a/b'], 'ERR_TREE_PARENT'],
    ['a loop of links', [['a -> b', 'b -> a']], ['a/x'], 'ERR_TREE_LOOP'],
    ['.. in a name', [], ['a/../b'], 'ERR_TREE_PATH'],
    ['a whiteout of nothing', [], ['.wh.'], 'ERR_TREE_WHITEOUT'],
    ['a link without target', [], ['a -> '], 'ERR_TREE_SYMLINK'],
  ])('refuses %s', (_, below, layer, code) => {
    expect(codeOf(() => over(below, layer))).toBe(code);
  });

  it('names what it refuses', () => {
    expect(() => over([['a']], ['./b = a'])).toThrow(
      'entry ./b of the layer is a hard link to a, a file of a lower layer',
    );
    expect(() => base('d/', { path: 'd/w', type: 'char' })).toThrow(
      'd/w of the layer is the character device 0:0, which overlayfs takes for a deleted file',
    );
  });

  it('bounds nodes, copies of directories below included', () => {
    const lower = [['a/', 'a/b/', 'a/b/c/']];
    expect(codeOf(() => over(lower, ['a/b/c/d'], { maxNodes: 4 }))).toBe('accepted');
    expect(codeOf(() => over(lower, ['a/b/c/d'], { maxNodes: 3 }))).toBe('ERR_TREE_LIMIT');
    expect(codeOf(() => over([], ['a/b'], { maxNodes: 1 }))).toBe('ERR_TREE_LIMIT');
  });

  it('refuses impossible offsets', () => {
    const { entries } = shortLayer(['a']);
    expect(codeOf(() => layerTree({ entries, streamSize: 512 }, { below: 'unknown' }))).toBe('ERR_TREE_EXTENT');
  });
});

describe('layerTree: the lowest layer', () => {
  it('has no marks: there is nothing to hide', () => {
    const tree = base('.wh.a', '.wh.d', 'd/', 'd/x', 'o/', 'o/.wh..wh..opq', 'o/n', 'i/j');
    expect(listing(tree)).toEqual(['d/', 'd/x', 'i/', 'i/j', 'o/', 'o/n']);
    expect([...walk(tree)].flatMap(({ node }) => [...node.xattrs])).toEqual([]);
  });

  it('takes paths of tens of thousands of components', () => {
    const deep = `${'d/'.repeat(10_000)}f`;
    expect([...walk(base(deep))]).toHaveLength(10_002);
    expect([...walk(over([[deep]], [`${deep}2`]))]).toHaveLength(10_002);
  });
});

describe('rootEntry', () => {
  it('is the last entry of the directory /', () => {
    const { entries } = shortLayer(['./', 'a/', { path: '/', type: 'dir', mode: 0o700 }]);
    expect(rootEntry(entries)).toMatchObject({ mode: 0o700 });
    expect(rootEntry(shortLayer(['a/']).entries)).toBeUndefined();
  });
});

/** For a merged tree in the place of the layers that it is made of. */
function ofAnyLayer(line: string): string {
  return line.replaceAll(/"layer":\d/g, '"layer":0');
}
