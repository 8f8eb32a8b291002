import { describe, expect, it } from 'vitest';
import type { TreeOp } from '../../../src/native/tree-ops.ts';
import type { TarEntry } from '../../../src/tar/entry.ts';
import { TreeError } from '../../../src/tree/errors.ts';
import { mergeLayers } from '../../../src/tree/merge.ts';
import type { Tree } from '../../../src/tree/tree.ts';
import { walk } from '../../../src/tree/walk.ts';
import { LayerApplier } from '../../../src/unpack/apply/layer-applier.ts';
import { UnpackError } from '../../../src/unpack/errors.ts';
import type { TreeForm } from '../../../src/unpack/unpacker.ts';
import type { ByteString } from '../../../src/util/byte-string.ts';
import { appliedTree, applyLayers, type ApplyOptions } from '../../support/applied-layers.ts';
import { rounds } from '../../support/fixtures.ts';
import { mergedLines } from '../../support/overlay-fold.ts';
import { describeShort, nodeAt, type Short, shortLayer } from '../../support/short-layers.ts';

const one = (form: TreeForm, ...layer: Short[]) => appliedTree([shortLayer(layer)], { form, portions: [1] });

function opsOf(layers: Short[][], options: ApplyOptions): TreeOp[] {
  const ops: TreeOp[] = [];
  applyLayers(layers.map(shortLayer), options, (some) => ops.push(...some));
  return ops;
}

/** `op path`, without the directories' attributes. */
function steps(layers: Short[][], options: ApplyOptions): string[] {
  return opsOf(layers, options)
    .filter(({ op }) => op !== 'describe')
    .map(({ op, path }) => `${op} ${path}`);
}

/** Directories end in `/`, opaque ones in `/!`; whiteouts begin with `-`. */
function listing(tree: Tree): string[] {
  return [...walk(tree)].slice(1).map(({ path, node }) => {
    const opaque = [...node.xattrs.keys()].some((name) => name.endsWith('.overlay.opaque'));
    if (node.type === 'dir') return `${path}/${opaque ? '!' : ''}`;
    return node.type === 'char' && node.devMajor === 0 ? `-${path}` : path;
  });
}

function failureOf(work: () => unknown): UnpackError | undefined {
  try {
    work();
  } catch (error) {
    if (error instanceof UnpackError) return error;
    throw error;
  }
  return undefined;
}

describe('LayerApplier: an overlay directory', () => {
  it.each<[string, Short[], string[], string[], string[]]>([
    ['a whiteout', ['d/', 'd/.wh.b'], ['d/', '-d/b'], [''], []],
    ['a whiteout of what the layer brings before it', ['d/', 'd/x', '.wh.d'], ['d/!', 'd/x'], [''], []],
    ['a whiteout of what the layer brings behind it', ['.wh.d', 'd/', 'd/x'], ['d/!', 'd/x'], [''], []],
    ['a whiteout of a file that comes anew', ['a', '.wh.a'], ['a'], [''], []],
    ['an opaque directory', ['d/', 'd/new', 'd/.wh..wh..opq', 'd/.wh.x'], ['d/!', 'd/new'], [''], []],
    ['a directory where a file of the layer was', ['d', 'd/', 'd/.wh.x'], ['d/!'], [''], []],
    ['parents that it does not describe', ['a/b/c'], ['a/', 'a/b/', 'a/b/c'], ['', 'a', 'a/b'], []],
    ['a described root', ['./', 'a'], ['a'], [], []],
    ['what a link of the layer leads to', ['l -> d/e', 'l/x'], ['d/', 'd/e/', 'd/e/x', 'l'], ['', 'd', 'd/e'], []],
    ['a missing parent of a whiteout', ['a/b/.wh.x'], ['a/', 'a/b/', '-a/b/x'], ['', 'a', 'a/b'], ['a', 'a/b']],
    ['a missing parent of an opaque marker', ['a/.wh..wh..opq'], ['a/!'], ['', 'a'], ['a']],
    ['an implied opaque directory', ['d/x', 'd/.wh..wh..opq'], ['d/!', 'd/x'], ['', 'd'], []],
    ['an implied directory in place of one below', ['d/i/x', '.wh.d'], ['d/!', 'd/i/', 'd/i/x'], [''], []],
    ['a whiteout below a whiteout', ['.wh.d', 'd/.wh.x'], ['-d'], [''], []],
    ['a whiteout below its own file', ['d', 'd/.wh.x'], ['d'], [''], []],
  ])('%s', (_, layer, expected, implied, hiding) => {
    const made = one('overlay', ...layer);
    expect(listing(made.tree)).toEqual(expected);
    expect([made.implied, made.hiding]).toEqual([implied, hiding]);
  });

  it.each<[string, Short[], string]>([
    [
      'a hard link to what the layer does not bring',
      ['b = ./a'],
      'entry b of layer 0 is a hard link to ./a, which is not there',
    ],
    ['an opaque root', ['a', '.wh..wh..opq'], 'entry .wh..wh..opq of layer 0 hides everything below'],
    ['a parent that comes later', ['a/b', 'a/'], 'entry a/ of layer 0 comes after something that is in it'],
    ['a file in place of an implied directory', ['a/b', 'a'], 'a directory that the layer does not describe'],
    ['the same inside what it replaces', ['d/', 'd/i/x', 'd -> e'], 'a directory that the layer does not describe'],
    ['a whiteout of what markers were read in', ['a/.wh.b', '.wh.a'], 'entry .wh.a of layer 0 hides a directory after'],
    ['an opaque marker above such', ['d/', 'd/a/.wh.b', 'd/.wh..wh..opq'], 'hides a directory after'],
    ['a whiteout far below its own file', ['d', 'd/e/.wh.x'], 'entry d/e/.wh.x of layer 0 may lead elsewhere'],
    ['a whiteout in what links brought', ['d/', 'l -> d', 'l/x/', 'd/x/.wh.y'], 'entry d/x/.wh.y of layer 0 may lead'],
    ['a device that is a whiteout', [{ path: 'w', type: 'char' }], 'entry w of layer 0 is the character device 0:0'],
  ])('depends on the layers below for %s', (_, layer, message) => {
    const failure = failureOf(() => one('overlay', ...layer));
    expect(failure?.code).toBe('ERR_UNPACK_BELOW');
    expect(failure?.message).toContain(message);
    expect(failure?.cause).toBeInstanceOf(TreeError);
  });

  it('has whiteouts of nobody, and marks in the name space of the overlay', () => {
    for (const [form, space] of [
      ['overlay', 'trusted'],
      ['overlay-user', 'user'],
    ] as const) {
      const { tree } = one(form, 'd/', 'd/.wh.x', 'o/', 'o/.wh..wh..opq');
      expect(nodeAt(tree, 'd').xattrs).toEqual(new Map([[`${space}.overlay.origin`, Buffer.alloc(0)]]));
      expect(nodeAt(tree, 'o').xattrs).toEqual(new Map([[`${space}.overlay.opaque`, Buffer.from('y')]]));
      expect(nodeAt(tree, 'd/x')).toMatchObject({ type: 'char', mode: 0, uid: 0, devMajor: 0, devMinor: 0, mtime: 0 });
    }
  });

  it('holds one layer', () => {
    const applier = new LayerApplier({ submit: () => {}, form: 'overlay', layerName: 'the layer' });
    applier.beginLayer(3, 'layer 3');
    expect(() => applier.beginLayer(4, 'layer 4')).toThrow(TypeError);
  });
});

describe('LayerApplier: what would steer an overlay', () => {
  const xattrs = { 'trusted.overlay.redirect': '/etc', 'user.overlay.opaque': 'y', 'user.x': '1' };
  const layer: Short[] = [
    { path: 'd', type: 'dir', xattrs },
    { path: 'd/f', xattrs },
  ];

  it.each<[ApplyOptions, string[]]>([
    [{ form: 'overlay' }, ['user.overlay.opaque', 'user.x']],
    [{ form: 'overlay-user' }, ['user.x']],
    [{ form: 'plain' }, ['user.x']],
    [{ form: 'plain', overlayMarks: 'kept' }, ['trusted.overlay.redirect', 'user.overlay.opaque', 'user.x']],
  ])('of %o', (options, expected) => {
    const { tree } = appliedTree([shortLayer(layer)], options);
    for (const path of ['d', 'd/f']) expect([...nodeAt(tree, path).xattrs.keys()].sort()).toEqual(expected);
  });

  it('refuses device 0:0 wherever an overlay may come', () => {
    const device = shortLayer([{ path: 'w', type: 'char' }]);
    expect(failureOf(() => appliedTree([device], { form: 'plain' }))?.code).toBe('ERR_UNPACK_BELOW');
    expect(listing(appliedTree([device], { form: 'plain', overlayMarks: 'kept' }).tree)).toEqual(['-w']);
  });
});

describe('LayerApplier: several layers in one directory', () => {
  const plain: ApplyOptions = { form: 'plain', portions: [1] };

  it('writes each entry as it comes, and whiteouts at the end of their layer', () => {
    const lower: Short[] = ['d/', 'd/old', 'd/sub/', 'd/sub/x', 'e'];
    expect(steps([lower, ['d/', 'd/new', '.wh.d', 'f']], plain).slice(5)).toEqual([
      'file d/new',
      'file f',
      'remove d/old',
      'remove d/sub',
    ]);
  });

  it('writes what a whiteout may change at the end, and what is behind it', () => {
    const lower: Short[] = ['usr/', 'lib -> usr'];
    const files = (layer: Short[]) =>
      steps([lower, layer], plain)
        .filter((step) => !step.startsWith('mkdir'))
        .slice(1);
    expect(files(['b', 'lib/x', 'c', '.wh.lib'])).toEqual(['file b', 'remove lib', 'file lib/x', 'file c']);
    expect(files(['b', 'lib/x', 'c'])).toEqual(['file b', 'file usr/x', 'file c']);
  });

  it.each<[string, Short[], Short[]]>([
    ['links', ['usr/lib/', 'lib -> usr/lib', 'abs -> /usr'], ['lib/x', 'abs/y', 'up -> ../usr', 'up/z']],
    ['a whiteout through a link below', ['usr/', 'usr/x', 'lib -> usr'], ['new', 'lib/.wh.x']],
    ['and a directory that the layer replaces', ['d/', 'e/', 'e/x', 'l -> d/../e'], ['d', 'l/.wh.x']],
    ['and a directory that only the layer has', ['e/', 'e/x', 'l -> d/../e'], ['d/', 'l/.wh.x']],
    ['a link that comes anew at the end', ['u/', 'u/x', 'l -> u'], ['no/parent', 'l/', 'l/.wh.x']],
    ['a hard link to what is deleted and comes anew', ['a', 'l -> a'], ['a', 'b = a', '.wh.a', 'c = l', 'd = c']],
  ])('does as mergeLayers with %s', (_, ...stack) => {
    const layers = stack.map(shortLayer);
    expect(mergedLines(appliedTree(layers, plain).tree)).toEqual(mergedLines(mergeLayers(layers)));
  });

  it('does without whiteouts in the lowest layer', () => {
    expect(steps([['a', '.wh.a', '.wh.b', 'd/.wh..wh..opq']], plain)).toEqual(['file a']);
  });

  it('removes what it replaces, and links what lower layers have', () => {
    expect(
      steps(
        [
          ['a', 'd/', 'd/x'],
          ['a', 'd', 'b = a', 'l -> b'],
          ['l/', 'd/'],
        ],
        plain,
      ),
    ).toEqual([
      'file a',
      'mkdir d',
      'file d/x',
      'remove a',
      'file a',
      'remove d',
      'file d',
      'link b',
      'symlink l',
      'remove l',
      'mkdir l',
      'remove d',
      'mkdir d',
    ]);
  });

  it('lifts a file that takes the place of its own directory', () => {
    expect(steps([['.peel-0', 'c/', 'c/x', 'c = c/x']], plain).slice(3)).toEqual([
      'link .peel-1',
      'remove c',
      'link c',
      'remove .peel-1',
    ]);
  });

  it('names streams, and describes directories when all is in them', () => {
    const ops = opsOf([['d/', 'd/a'], ['d/b']], plain);
    expect(ops.flatMap((op) => (op.op === 'file' ? [[op.path, op.stream]] : []))).toEqual([
      ['d/a', 0],
      ['d/b', 1],
    ]);
    expect(ops.slice(-2).map(({ op, path }) => [op, path])).toEqual([
      ['describe', 'd'],
      ['describe', ''],
    ]);
  });

  it.each<[string, Short[], string]>([
    ['a path that leaves the tree', ['../a'], 'entry ../a of layer 1: the path leaves the tree through ".."'],
    ['a file below a file', ['f', 'f/x'], 'entry f/x of layer 1 is below something that is not a directory'],
    ['a hard link to nothing', ['b = c'], 'entry b of layer 1 is a hard link to c, which is not there'],
    ['a hard link out', ['b = ../c'], 'hard link to ../c: the path leaves the tree'],
    ['a whiteout of nothing', ['.wh.'], 'entry .wh. of layer 1 is a whiteout of nothing'],
    [
      'a hard link to what it deletes',
      ['b = a', '.wh.a'],
      'entry b of layer 1 is a hard link to a, which is not there',
    ],
  ])('refuses %s', (_, layer, message) => {
    const failure = failureOf(() => appliedTree([['a'], layer].map(shortLayer), plain));
    expect(failure?.code).toBe('ERR_UNPACK_ENTRY');
    expect(failure?.message).toContain(message);
    expect(failure?.cause).toBeInstanceOf(TreeError);
  });
});

describe('LayerApplier: limits', () => {
  it('bounds nodes', () => {
    const limited = (maxNodes: number) => () => appliedTree([shortLayer(['a/b/c/d'])], { form: 'plain', maxNodes });
    expect(failureOf(limited(4))).toBeUndefined();
    expect(failureOf(limited(3))).toMatchObject({ code: 'ERR_UNPACK_LIMIT', cause: { code: 'ERR_TREE_LIMIT' } });
  });

  it('bounds long paths', () => {
    const deep = (depth: number) => () => opsOf([[`${'d/'.repeat(depth)}f`]], { form: 'plain' });
    expect(failureOf(deep(5000))).toBeUndefined();
    expect(failureOf(deep(30_000))).toMatchObject({
      code: 'ERR_UNPACK_LIMIT',
      message: 'layer 0 has more long paths than the limit',
    });
  });

  it('refuses extents over other entries, in whatever portions they come', () => {
    const { entries } = shortLayer(['a', 'b']);
    const [a, b] = entries as [TarEntry, TarEntry];
    for (const portions of [[1], [2]]) {
      const failure = failureOf(() => appliedTree([{ entries: [b, a] }], { form: 'plain', portions }));
      expect(failure).toMatchObject({ code: 'ERR_UNPACK_ENTRY', cause: { code: 'ERR_TREE_EXTENT' } });
    }
  });

  it('hands on what it was handed by whom it submits to', () => {
    const broken = new Error('no space');
    const submit = (): void => {
      throw broken;
    };
    const applier = new LayerApplier({ submit, form: 'plain', layerName: 'the layer' });
    expect(() => applier.take(shortLayer(['a']).entries)).toThrow(broken);
  });

  it('takes many entries in little time and memory, and submits them in portions', () => {
    const [file] = quickLayer(['x']).entries as [TarEntry];
    const total = rounds(1_000_000, 100_000, 0.1);
    let ops = 0;
    let most = 0;
    const submit = (some: readonly TreeOp[]): void => {
      ops += some.length;
      most = Math.max(most, some.length);
    };
    const applier = new LayerApplier({ submit, form: 'overlay', layerName: 'the layer' });
    const before = process.cpuUsage();
    for (let i = 0; i < total; i += 1000) {
      const portion = Array.from({ length: 1000 }, (_, n): TarEntry => {
        const headerOffset = (i + n) * 512;
        const path = `srv/some/folder-${i}/of-many-${n % 10}/file-${n}` as ByteString;
        return { ...file, path, headerOffset, dataOffset: headerOffset + 512 };
      });
      applier.take(portion);
    }
    const { implied } = applier.finish();
    const directories = 2 + (total / 1000) * 11;
    expect(implied).toHaveLength(directories + 1);
    expect(ops).toBe(total + 2 * directories + 1);
    expect(most).toBeLessThanOrEqual(2048);
    // Measured: 2 µs an entry. Work that grows with what is there already is far above this.
    expect(process.cpuUsage(before).user / total).toBeLessThan(60);
  });

  it.each<[string, (n: number) => Short[][]]>([
    ['opaque markers', (n) => [['d/'], ['d/', ...many(n, (i) => `d/${i}`), ...many(n, () => 'd/.wh..wh..opq')]]],
    ['whiteouts of a full directory', (n) => [['d/'], ['d/', ...many(n, (i) => `d/${i}`), ...many(n, () => '.wh.d')]]],
    ['links that lift', (n) => [[...many(n, (i) => `.peel-${i}`), ...many(n, () => ['c/', 'c/x', 'c = c/x']).flat()]]],
  ])('does no square work for %s', (_, layers) => {
    const entries = layers(20_000).map(quickLayer);
    const before = process.cpuUsage();
    applyLayers(entries, { form: 'plain' }, () => {});
    // Measured: 0.2 to 0.4 s; and 10 s or more where each looks at all.
    expect(process.cpuUsage(before).user).toBeLessThan(4_000_000);
  });
});

/** Without a tar in between; `a = b` and `a/` as in `Short`. */
function quickLayer(layer: Short[]): { entries: TarEntry[] } {
  const [template] = shortLayer([{ path: 'x', data: '' }]).entries as [TarEntry];
  const entries = layer.map((short, i): TarEntry => {
    const { path, type = 'file', link = '' } = describeShort(short);
    const offsets = { headerOffset: i * 512, dataOffset: i * 512 + 512 };
    return { ...template, ...offsets, path: path as ByteString, type, link: link as ByteString };
  });
  return { entries };
}

function many<T>(n: number, make: (i: number) => T): T[] {
  return Array.from({ length: n }, (_, i) => make(i));
}
