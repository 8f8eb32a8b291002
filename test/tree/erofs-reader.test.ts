import { closeSync, mkdirSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TarEntry } from '../../src/tar/entry.ts';
import { readTar } from '../../src/tar/reader.ts';
import { archiveTree } from '../../src/tree/archive-tree.ts';
import { type ErofsLimits, readErofs } from '../../src/tree/erofs-reader.ts';
import { writeErofs } from '../../src/tree/erofs-writer.ts';
import { TreeError } from '../../src/tree/errors.ts';
import { checkNextExtents } from '../../src/tree/extents.ts';
import { countLinks, mergeLayers } from '../../src/tree/merge.ts';
import { type DirectoryNode, newDirectory, newNode } from '../../src/tree/node.ts';
import type { Tree, TreeNode } from '../../src/tree/tree.ts';
import { treeEntries } from '../../src/tree/tree-entries.ts';
import type { ByteString } from '../../src/util/byte-string.ts';
import { mutate } from '../support/damage.ts';
import { rounds } from '../support/fixtures.ts';
import { mergedLines } from '../support/overlay-fold.ts';
import { runOk } from '../support/run.ts';
import { direntAt, inodeAt, sealed } from '../support/sealed-image.ts';
import { nodeAt, type Short, shortLayer } from '../support/short-layers.ts';
import { type Described, tarOf } from '../support/tar-members.ts';
import { tempDir } from '../support/tmp.ts';

function imageOf(...layer: Short[]): Buffer {
  const { entries, streamSize } = shortLayer(layer);
  return writeErofs(archiveTree(entries, { streamSize: streamSize as number }));
}

/** What is left of an archive when it went through an image. */
function again(tar: Buffer): TarEntry[] {
  const image = writeErofs(archiveTree(readTar(tar), { streamSize: tar.length }));
  const entries = treeEntries(readErofs(image));
  let end = 0;
  for (const entry of entries) end = checkNextExtents(entry, 'the layer', end);
  expect(writeErofs(archiveTree(entries, { streamSize: tar.length })).equals(image)).toBe(true);
  return entries;
}

function expectSame(tar: Buffer): readonly TarEntry[] {
  const entries = again(tar);
  const lines = (some: readonly TarEntry[]) => mergedLines(mergeLayers([{ entries: some, streamSize: tar.length }]));
  expect(lines(entries)).toEqual(lines(readTar(tar)));
  return entries;
}

function failureOf(bytes: Uint8Array, limits?: ErofsLimits): string {
  try {
    treeEntries(readErofs(bytes, limits));
  } catch (error) {
    if (error instanceof TreeError) return `${error.code} ${error.message}`;
    throw error;
  }
  return 'accepted';
}

/** An image of a root with these children, which stand as they are given. */
function imageWith(children: Record<string, TreeNode>, order: readonly TreeNode[] = Object.values(children)): Buffer {
  const root = newDirectory();
  for (const [name, node] of Object.entries(children)) root.children.set(name as ByteString, node);
  countLinks(root);
  return writeErofs(handmade(root, order));
}

function handmade(root: DirectoryNode, order: readonly TreeNode[]): Tree {
  return { root, layers: 1, order: new Map([root, ...order].map((node, i) => [node, i + 1])) };
}

const everything: readonly Described[] = [
  { path: './', type: 'dir', mtime: -5, mtimeNs: 7 },
  { path: 'bin', type: 'dir', mode: 0o1777 },
  { path: 'bin/empty' },
  { path: 'bin/large', data: Buffer.alloc(70_001, 'large'), uid: 3_000_000_000, gid: 70_000, mtimeNs: 999_999_999 },
  { path: 'after', mtime: 4_294_967_297, data: 'x', mode: 0o6755 },
  { path: 'null', type: 'char', major: 1, minor: 3 },
  { path: 'wide', type: 'char', major: 4095, minor: 0xfffff },
  { path: 'disk', type: 'block', major: 259, minor: 70_000 },
  { path: 'gone', type: 'char' },
  { path: 'pipe', type: 'fifo', mode: 0o600 },
  ...[1, 100, 600, 4095].map((n) => ({ path: `link${n}`, type: 'symlink', link: 'l'.repeat(n) }) as const),
  { path: 'hard', type: 'hardlink', link: 'bin/large' },
  { path: 'other', type: 'hardlink', link: 'link600' },
  { path: 'x1', xattrs: { 'user.same': 'same', 'user.one': Buffer.from([0, 255]), 'security.capability': 'c' } },
  { path: 'x2', xattrs: { 'user.same': 'same', 'system.posix_acl_access': 'a', 'trusted.overlay.opaque': 'y' } },
  { path: 'x3', type: 'dir', xattrs: { 'system.posix_acl_default': 'd', 'user.large': Buffer.alloc(60_000, 'v') } },
  ...Array.from({ length: 300 }, (_, i) => ({ path: `bin/file-${i}`, data: `${i}` })),
  ...Array.from({ length: 60 }, (_, i) => ({ path: `x3/d${i}`, type: 'dir' }) as const),
  ...['-x', '!bang', '...', '..a', '.wh.x', '~', 'new\nline', 'n'.repeat(255)].map((name) => ({ path: `x3/${name}` })),
  { path: Buffer.from([0x78, 0x33, 0x2f, 0xff, 0x80]), data: 'raw' },
];

describe('readErofs', () => {
  it('reads what writeErofs wrote, of every type and attribute', () => {
    const entries = expectSame(tarOf(...everything));
    expect(entries).toHaveLength(everything.length);
    expect(entries[0]).toMatchObject({ path: './', type: 'dir', mtime: -5, mtimeNs: 7 });
    expect(entries.find(({ path: name }) => name === 'wide')).toMatchObject({ devMajor: 4095, devMinor: 0xfffff });
    expect(entries.slice(-2)).toMatchObject([
      { path: 'other', link: 'link600', size: 0, extents: [] },
      { path: 'bin/large', link: 'hard', size: 0, extents: [] },
    ]);
    expect(entries.filter(({ sparse }) => sparse)).toEqual([]);
  });

  it.each<[string, Short[]]>([
    ['nothing', []],
    ['implied directories', ['a/b/c', 'd/', '.wh.x']],
    ['many attributes', Array.from({ length: 270 }, (_, i) => ({ path: `f${i}`, xattrs: manyXattrs }))],
    ['a full directory', Array.from({ length: 5000 }, (_, i) => ({ path: `file-${i}` }))],
    ['a deep one', [`${'d/'.repeat(15_000)}f`]],
  ])('reads %s', (_, layer) => {
    const { entries, streamSize } = shortLayer(layer);
    const tree = archiveTree(entries, { streamSize: streamSize as number });
    const read = readErofs(writeErofs(tree));
    expect(treeEntries(read)).toEqual(treeEntries(tree));
    expect(read.root.xattrs).toEqual(tree.root.xattrs);
  });

  it('keeps nothing of the image', () => {
    const image = imageOf({ path: 'f', xattrs: { 'user.x': 'value' } });
    const tree = readErofs(image);
    image.fill(0);
    expect(nodeAt(tree, 'f').xattrs).toEqual(new Map([['user.x', Buffer.from('value')]]));
  });

  it.each(['gnu', '1.0'])('reads what tar wrote, sparse files in the %s form', async (form) => {
    const dir = tempDir();
    const source = path.join(dir, 'source');
    mkdirSync(path.join(source, 'some', 'folder'), { recursive: true });
    writeFileSync(path.join(source, 'some', 'folder', 'plain'), 'plain');
    writeFileSync(path.join(source, 'empty'), '');
    const script = `ln some/folder/plain hard; ln -s some/folder link; mkfifo pipe; mkdir ${'deep/'.repeat(60)} -p`;
    await runOk('sh', ['-c', `cd ${source}; ${script}; touch $(printf 'n%.0s' $(seq 200)) -d @-1.5`]);
    const sparse = (name: string, size: number, ...at: number[]): void => {
      const fd = openSync(path.join(source, name), 'w');
      for (const offset of at) writeSync(fd, Buffer.alloc(5000, `${name}${offset}`), 0, 5000, offset);
      closeSync(fd);
      truncateSync(path.join(source, name), size);
    };
    sparse('start', 1_000_000, 0);
    sparse('end', 1_000_000, 995_000);
    sparse('hole', 7_000_000);
    sparse('many', 20_000_001, ...Array.from({ length: 20 }, (_, i) => i * 1_000_000));
    const format = form === 'gnu' ? ['--format=gnu'] : ['--format=posix', `--sparse-version=${form}`];
    const tar = path.join(dir, 'source.tar');
    await runOk('tar', ['-c', '--sparse', ...format, '-f', tar, '-C', source, '.']);
    const entries = expectSame(readFileSync(tar));
    expect(entries.filter(({ sparse: is }) => is).map(({ path: name }) => name)).toHaveLength(4);
  });
});

const manyXattrs = Object.fromEntries(Array.from({ length: 260 }, (_, i) => [`user.attribute${i}`, 'same']));

describe('readErofs: images of somebody else', () => {
  const image = imageOf('./', 'd/', 'd/e/', 'd/e/f', { path: 'g', xattrs: { 'user.x': '1' } }, 'l -> d', 'h = d/e/f');
  const root = inodeAt(image, 1);
  const d = inodeAt(image, 2);
  const f = inodeAt(image, 4);
  const g = inodeAt(image, 5);
  const l = inodeAt(image, 6);
  const u16 = (at: number, value: number) => (bytes: Buffer) => void bytes.writeUInt16LE(value, at);
  const u32 = (at: number, value: number) => (bytes: Buffer) => void bytes.writeUInt32LE(value, at);
  const names = (directory: number) => directory + 64 + image.readUInt16LE(directory + 72);

  it('are read when nothing is wrong with them', () => expect(failureOf(sealed(image, () => {}))).toBe('accepted'));

  it.each<[string, (bytes: Buffer) => void, string]>([
    ['another magic', u32(1024, 1), 'has no superblock'],
    ['something before the superblock', u32(0, 1), 'unknown in front of its superblock'],
    ['large blocks', (bytes) => void bytes.writeUInt8(12, 1036), 'blocks of 2^12 bytes'],
    ['an unknown compatible feature', u32(1032, 7), 'unknown features'],
    ['an unknown incompatible feature', u32(1024 + 80, 0xd), 'unknown features'],
    ['two devices', u16(1024 + 86, 2), 'not that of one layer'],
    ['no device', u16(1024 + 86, 0), 'not that of one layer'],
    ['a volume name', u32(1024 + 64, 1), 'unknown in its superblock'],
    ['a build time', u32(1024 + 24, 1), 'unknown in its superblock'],
    ['metadata elsewhere', u32(1024 + 40, 1), 'unknown in its superblock'],
    ['a packed inode', u32(1024 + 96, 1), 'unknown in its superblock'],
    ['a device with a tag', u32(1152, 1), 'unknown in its device table'],
    ['a mapped device', u32(1152 + 68, 1), 'unknown in its device table'],
    ['a larger device', u32(1152 + 64, 99), 'a device of another size'],
    ['a smaller device', u32(1152 + 64, 1), 'data behind the 512 bytes'],
    ['more blocks than bytes', u32(1024 + 36, 99), 'in place of 99 blocks'],
    ['fewer inodes', u32(1024 + 16, 5), 'impossible order'],
    ['more inodes', u32(1024 + 16, 7), 'impossible order'],
    ['very many inodes', u32(1024 + 20, 1), 'ERR_TREE_LIMIT'],
    ['a root that is a file', u16(1024 + 14, f / 32), 'root that is no directory'],
    ['a root outside', u16(1024 + 14, 0xffff), 'ends before inode 65535'],
    ['a compact inode', u16(f, 8), 'unknown kind'],
    ['a socket', u16(f + 4, 0o140644), 'unknown kind'],
    ['a compressed file', u16(f, 1 | (3 << 1)), 'unknown layout'],
    ['a file with plain data', u16(f, 1), 'unknown layout'],
    ['a directory in chunks', u16(d, 1 | (4 << 1)), 'unknown layout'],
    ['a reserved field', u32(f + 48, 1), 'unknown in inode'],
    ['an impossible time', u32(f + 36, 0x7fff_ffff), 'impossible time'],
    ['impossible nanoseconds', u32(f + 40, 1e9), 'impossible time'],
    ['an impossible size', u32(f + 12, 0xffff_ffff), 'impossible size'],
    ['a size past all chunks', u32(f + 8, 0x7fff_ffff), 'ends before the chunks of a file'],
    ['a place twice', u32(f + 20, 2), 'impossible order'],
    ['a place 0', u32(f + 20, 0), 'impossible order'],
    ['a place past the end', u32(f + 20, 7), 'impossible order'],
    [
      'a root that is not first',
      (bytes) => {
        u32(root + 20, 6)(bytes);
        u32(l + 20, 1)(bytes);
      },
      'impossible order',
    ],
    [
      'a directory behind what is in it',
      (bytes) => {
        u32(d + 20, 3)(bytes);
        u32(inodeAt(image, 3) + 20, 2)(bytes);
      },
      'something before its directory',
    ],
    ['too few names', u32(f + 44, 3), 'more or fewer names'],
    ['too many names', u32(f + 44, 1), 'more or fewer names'],
    ['a wrong number of subdirectories', u32(d + 44, 2), 'more or fewer names'],
    [
      'a directory in two places',
      (bytes) => void bytes.writeUInt32LE(d / 32, direntAt(image, root, 'g')),
      'a directory in two places',
    ],
    ['a circle', (bytes) => void bytes.writeUInt32LE(root / 32, direntAt(image, d, 'e')), 'a directory in two places'],
    [
      'a name of nothing',
      (bytes) => void bytes.writeUInt32LE(0x7fff_ffff, direntAt(image, d, 'e')),
      'ends before inode',
    ],
    [
      'a name far away',
      (bytes) => void bytes.writeUInt32LE(0x100_0000, direntAt(image, d, 'e') + 4),
      'impossible number',
    ],
    ['a name of another type', (bytes) => void bytes.writeUInt8(7, direntAt(image, root, 'g') + 10), 'another type'],
    [
      'a name with a reserved byte',
      (bytes) => void bytes.writeUInt8(1, direntAt(image, root, 'g') + 11),
      'damaged directory',
    ],
    ['a wrong .', (bytes) => void bytes.writeUInt32LE(d / 32, direntAt(image, root, '.')), 'wrong "."'],
    ['a wrong ..', (bytes) => void bytes.writeUInt32LE(d / 32, direntAt(image, d, '..')), 'wrong ".."'],
    ['no ..', (bytes) => void bytes.write('.a', names(root) + 1, 'latin1'), 'a directory in two places'],
    ['names out of order', (bytes) => void bytes.write('a', names(root) + 6, 'latin1'), 'damaged directory'],
    ['a name with a slash', (bytes) => void bytes.write('/', names(root) + 3, 'latin1'), 'damaged directory'],
    ['a name with a NUL', (bytes) => void bytes.writeUInt8(0, names(d) + 3), 'damaged directory'],
    ['names over the entries', u16(d + 64 + 8, 12), 'unknown in a directory'],
    ['half an entry', u16(d + 64 + 8, 30), 'damaged directory'],
    ['no entries', u16(d + 64 + 8, 0), 'damaged directory'],
    ['an empty directory', u32(d + 8, 0), 'without "." or ".."'],
    ['a tiny directory', u32(d + 8, 11), 'damaged directory'],
    ['inline content over a block', u32(d + 8, 600), 'in another block'],
    ['a link to nothing', u32(l + 8, 0), 'a link to 0 bytes'],
    ['a link to a NUL', (bytes) => void bytes.writeUInt8(0, l + 64), 'NUL byte'],
    ['unknown chunks', u32(f + 16, 0x60), 'unknown format 96'],
    ['chunks without indexes', u32(f + 16, 0), 'unknown format 0'],
    ['a chunk of another device', u16(f + 64 + 2, 2), 'a chunk of an unknown kind'],
    ['a chunk with advice', u16(f + 64, 1), 'a chunk of an unknown kind'],
    ['a chunk behind the device', u32(f + 64 + 4, 0x7fff_ffff), 'data behind'],
    ['attributes past the end', u16(g + 2, 0xffff), 'ends before extended attributes'],
    [
      'an attribute past the others',
      (bytes) => void bytes.writeUInt8(9, g + 64 + 12),
      'ends inside an extended attribute',
    ],
    ['an unknown name space', (bytes) => void bytes.writeUInt8(5, g + 64 + 13), 'unknown name space 5'],
    ['an ACL with a name', (bytes) => void bytes.writeUInt8(2, g + 64 + 13), 'unknown name space 2'],
    ['a filter of names', u32(g + 64, 1), 'unknown in extended attributes'],
    ['too many shared attributes', (bytes) => void bytes.writeUInt8(5, g + 64 + 4), 'extended attribute'],
  ])('are refused with %s', (_, change, message) => {
    const failure = failureOf(sealed(image, change));
    expect(failure).toMatch(/^ERR_TREE_(IMAGE|LIMIT) the EROFS image /);
    expect(failure).toContain(message);
  });

  it('are refused with a wrong checksum, cut off, and with more behind', () => {
    const damaged = Buffer.from(image);
    damaged.writeUInt8(1, 1024 + 200);
    expect(failureOf(damaged)).toContain('wrong checksum');
    expect(failureOf(Buffer.concat([image, Buffer.alloc(512)]))).toContain('in place of');
    for (let size = 0; size < image.length; size += size % 512 < 3 ? 1 : 61)
      expect(failureOf(image.subarray(0, size)), `${size}`).toContain('ERR_TREE_IMAGE');
    expect(failureOf(writeErofs(mergeLayers([shortLayer(['a']), shortLayer(['b'])])))).toContain(
      'not that of one layer',
    );
    expect(failureOf(writeErofs(mergeLayers([shortLayer(['a'])]), { blockSize: 4096, data: 'holes' }))).toContain(
      '2^12',
    );
  });

  it('are refused with impossible names', () => {
    const file = () => newNode('file', 0o644);
    expect(failureOf(imageWith({ 'a/b': file() }))).toContain('damaged directory');
    expect(failureOf(imageWith({ 'a\0b': file() }))).toContain('unknown in a directory');
    expect(failureOf(imageWith({ 'a\0b': file(), c: file() }))).toContain('damaged directory');
    expect(failureOf(imageWith({ ['n'.repeat(256)]: file() }))).toContain('damaged directory');
    expect(failureOf(imageWith({ '..': file() }))).toContain('damaged directory');
    expect(failureOf(imageWith({ a: file() }))).toBe('accepted');
  });

  it('are refused with a mark on what is no directory, or a mark that says something', () => {
    const marked = (node: TreeNode, value: string) => {
      node.xattrs = new Map([['trusted.peel.implied' as ByteString, Buffer.from(value)]]);
      return failureOf(imageWith({ a: node }));
    };
    expect(marked(newNode('file', 0), '')).toContain('a mark on what cannot have one');
    expect(marked(newDirectory(), 'y')).toContain('a mark on what cannot have one');
    expect(marked(newDirectory(), '')).toBe('accepted');
  });

  it('are refused beyond the limits', () => {
    const xattrs = { 'user.x': 'shared' };
    const some = imageOf(
      { path: 'dir', type: 'dir' },
      { path: 'dir/a', xattrs },
      { path: 'dir/b', xattrs },
      'l -> target',
    );
    const of = (limits: ErofsLimits) => failureOf(some, limits).split(' ')[0];
    const all = 3 + 5 + 5 + 1 + 6;
    // The root is one too.
    expect([of({ entries: 5 }), of({ entries: 4 })]).toEqual(['accepted', 'ERR_TREE_LIMIT']);
    expect([of({ nameBytes: 5 }), of({ nameBytes: 4 })]).toEqual(['accepted', 'ERR_TREE_LIMIT']);
    expect([of({ allNameBytes: all }), of({ allNameBytes: all - 1 })]).toEqual(['accepted', 'ERR_TREE_LIMIT']);
    // The root's mark is one too.
    const bytes = 20 + 2 * 12 + 3 * 64;
    expect([of({ allXattrBytes: bytes }), of({ allXattrBytes: bytes - 1 })]).toEqual(['accepted', 'ERR_TREE_LIMIT']);
    const data = imageOf('a', 'b');
    expect([failureOf(data, { extents: 2 }), failureOf(data, { extents: 1 }).split(' ')[0]]).toEqual([
      'accepted',
      'ERR_TREE_LIMIT',
    ]);
  });

  it('are refused before chunks beyond the limits are looked at', () => {
    const file = newNode('file', 0o644);
    file.size = 8 * 512;
    file.extents = [0, 2, 5, 7].map((i) => ({ layer: 0, fileOffset: 512 * i, streamOffset: 512 * i, size: 512 }));
    const sparse = imageWith({ a: file });
    expect(failureOf(sparse, { chunks: 8, extents: 4 })).toBe('accepted');
    const wrong = (chunk: number) =>
      sealed(sparse, (bytes) => void bytes.writeUInt16LE(9, inodeAt(sparse, 2) + 64 + 8 * chunk));
    expect(failureOf(wrong(0), { chunks: 7 })).toBe('ERR_TREE_LIMIT the EROFS image has more chunks than 7');
    expect(failureOf(wrong(3), { extents: 1 })).toBe('ERR_TREE_LIMIT the EROFS image has more runs of data than 1');
    expect(failureOf(wrong(7), { chunks: 8, extents: 4 })).toContain('a chunk of an unknown kind');
  });

  it('are refused with paths that nobody can hold, in little time', () => {
    const deep = (depth: number) => {
      const root = newDirectory();
      const order: TreeNode[] = [];
      let at = root;
      for (let i = 0; i < depth; i++) {
        const next = newDirectory();
        order.push(next);
        at.children.set('d' as ByteString, next);
        at = next;
      }
      countLinks(root);
      return writeErofs(handmade(root, order));
    };
    const before = process.cpuUsage();
    expect(failureOf(deep(33_000))).toContain('ERR_TREE_LIMIT');
    expect(failureOf(deep(2000), { allNameBytes: 1 << 20 })).toContain('ERR_TREE_LIMIT');
    expect(process.cpuUsage(before).user).toBeLessThan(5_000_000);
  });

  it('are refused, or read and written again as they are', () => {
    const whole = imageOf(...everything.slice(0, 60), ...everything.slice(-9));
    const seen = { refused: 0, read: 0 };
    fc.assert(
      fc.property(fc.nat(), fc.boolean(), (seed, small) => {
        const from = small ? image : whole;
        const changed = mutate(from.subarray(1024), seed, from.length - 1024);
        const bytes = sealed(Buffer.concat([from.subarray(0, 1024), changed]), () => {});
        let tree: Tree;
        try {
          tree = readErofs(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(TreeError);
          seen.refused++;
          return;
        }
        seen.read++;
        const entries = treeEntries(tree);
        expect(treeEntries(readErofs(writeErofs(tree)))).toEqual(entries);
      }),
      { numRuns: rounds(10_000, 500, 0.1) },
    );
    for (const [what, times] of Object.entries(seen)) expect(times, what).toBeGreaterThan(50);
  });
});
