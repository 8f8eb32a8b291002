import { closeSync, openSync, readFileSync, readSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readTar, TarReader } from '../../src/tar/reader.ts';
import { formatTarHeader } from '../../src/tar/writer.ts';
import { writeErofs } from '../../src/tree/erofs-writer.ts';
import { mergeLayers } from '../../src/tree/merge.ts';
import type { Tree } from '../../src/tree/tree.ts';
import { canMount, fsckErofs, mountErofs } from '../support/erofs-mount.ts';
import { listTree, treeDifference } from '../support/list-tree.ts';
import { unpackWithTar, unpackWithUmoci } from '../support/reference-tree.ts';
import { run, runOk } from '../support/run.ts';
import { archive, base256, oldGnuSparse } from '../support/tar-builder.ts';
import { type Described, memberBytes, tarMember, tarOf } from '../support/tar-members.ts';
import { rounds } from '../support/fixtures.ts';
import { tempDir } from '../support/tmp.ts';

const root: Described = { path: './', type: 'dir', mtime: 1_600_000_000 };

function mergeTars(tars: readonly Buffer[]): Tree {
  return mergeLayers(tars.map((tar) => ({ entries: readTar(tar), streamSize: tar.length })));
}

function save(dir: string, tars: readonly Buffer[]): string[] {
  return tars.map((tar, i) => {
    const file = path.join(dir, `layer${i}.tar`);
    writeFileSync(file, tar);
    return file;
  });
}

/** Mounts the tree of `tars` and compares it with what another program unpacks. Returns the mount point. */
async function expectEqual(tars: readonly Buffer[], unpack = unpackWithTar): Promise<{ mount: string; tree: Tree }> {
  const dir = tempDir();
  const files = save(dir, tars);
  const tree = mergeTars(tars);
  await fsckErofs(dir, writeErofs(tree, { blockSize: 4096, data: 'holes' }));
  const expected = await listTree(await unpack(path.join(dir, 'reference'), files));
  const mount = await mountErofs(dir, writeErofs(tree), files);
  expect(treeDifference(await listTree(mount), expected)).toBe('');
  return { mount, tree };
}

describe.skipIf(!canMount)('writeErofs, mounted by the kernel', () => {
  it('equals tar for every type and attribute', async () => {
    await expectEqual([
      tarOf(
        root,
        { path: 'bin', type: 'dir', mode: 0o1777, mtime: 1, mtimeNs: 1 },
        { path: 'bin/empty' },
        { path: 'bin/one', data: 'x', mode: 0o4755, uid: 3_000_000, gid: 4_000_000_000 },
        { path: 'bin/block', data: Buffer.alloc(512, 'b') },
        { path: 'bin/large', data: Buffer.alloc(70_001, 'large'), mtimeNs: 999_999_999 },
        { path: 'before', data: 'epoch', mtime: -86_400, mtimeNs: 250_000_000 },
        { path: 'after', mtime: 4_294_967_297 },
        { path: 'null', type: 'char', major: 1, minor: 3, mode: 0o666 },
        { path: 'wide', type: 'char', major: 4095, minor: 0xfffff },
        { path: 'disk', type: 'block', major: 259, minor: 70_000 },
        { path: 'pipe', type: 'fifo', mode: 0o600 },
        { path: 'link', type: 'symlink', link: '/etc/passwd' },
        ...[100, 600, 4000, 4095].map((n) => ({ path: `link${n}`, type: 'symlink', link: 'l'.repeat(n) }) as const),
        { path: 'other/hard', type: 'hardlink', link: 'bin/one' },
        { path: 'other/link', type: 'hardlink', link: 'link600' },
        { path: 'other', type: 'dir' },
        { path: 'bin', type: 'dir', mode: 0o755, mtime: 77 },
        root,
      ),
    ]);
  });

  it('equals tar for names of all kinds', async () => {
    const names = [
      '-x',
      '!bang',
      ' sp',
      '+p',
      '...',
      '..a',
      '.hidden',
      'ä',
      '~',
      '\x7f',
      'new\nline',
      'tab\t',
      'A',
      'a',
      '\\',
      'n'.repeat(255),
    ];
    const raw = [Buffer.from([0xff]), Buffer.from([0xc3, 0x28]), Buffer.from([0x80, 0x2d]), Buffer.from([1, 2, 3])];
    const deep = Array.from({ length: 30 }, (_, i) => `directory${i}`).join('/');
    await expectEqual([
      tarOf(
        root,
        ...names.map((name) => ({ path: name, data: name })),
        ...raw.map((name) => ({ path: name, data: 'raw' })),
        { path: 'd', type: 'dir' },
        ...names.map((name) => ({ path: `d/${name}`, type: 'symlink', link: name }) as const),
        ...deep.split('/').map((_, i, all) => ({ path: all.slice(0, i + 1).join('/'), type: 'dir' }) as const),
        { path: `${deep}/file`, data: 'deep' },
      ),
    ]);
  });

  it('equals tar for extended attributes, shared and not', async () => {
    const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
    // Version 2, then tag, permissions and id of: owner, user 1000, group, mask, others.
    const entries = [
      '01000600ffffffff',
      '02000400e8030000',
      '04000400ffffffff',
      '10000400ffffffff',
      '20000400ffffffff',
    ];
    const acl = Buffer.from(`02000000${entries.join('')}`, 'hex');
    const tree = await expectEqual([
      tarOf(
        root,
        { path: 'acl', data: 'a', xattrs: { 'system.posix_acl_access': acl } },
        { path: 'ping', data: 'p', xattrs: { 'security.capability': capability, 'user.own': 'ping' } },
        { path: 'traceroute', data: 't', xattrs: { 'security.capability': capability } },
        {
          path: 'dir',
          type: 'dir',
          xattrs: { 'user.same': 'same', 'user.empty': '', 'user.binary': Buffer.from([0, 255, 10]) },
        },
        {
          path: 'many',
          xattrs: Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`user.attribute${i}`, 'same'])),
        },
        {
          path: 'many2',
          xattrs: Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`user.attribute${i}`, 'same'])),
        },
        { path: 'sym', type: 'symlink', link: 'l'.repeat(300), xattrs: { 'trusted.x': 'y' } },
        ...Array.from({ length: 300 }, (_, i) => ({ path: `file${i}`, data: `${i}`, xattrs: { 'user.same': 'same' } })),
      ),
    ]);
    expect(tree.tree.root.children.size).toBe(307);
  });

  it('keeps large attributes and leaves out name spaces that Linux does not have', async () => {
    const dir = tempDir();
    const large = Buffer.alloc(60_000, 'large');
    const tar = tarOf({
      path: 'f',
      data: 'data',
      xattrs: {
        'user.large': large,
        'user.second': large.subarray(1),
        'com.apple.x': 'no',
        'user.': 'no',
        'system.posix_acl_access2': 'no',
        [`user.${'n'.repeat(250)}`]: 'long',
      },
    });
    const tree = mergeTars([tar]);
    await fsckErofs(dir, writeErofs(tree, { blockSize: 4096, data: 'holes' }));
    const mount = await mountErofs(dir, writeErofs(tree), save(dir, [tar]));
    const list = await runOk('getfattr', ['--absolute-names', '-m', '-', path.join(mount, 'f')]);
    expect(list.split('\n').filter((line) => line.startsWith('user.') || line.includes('apple'))).toHaveLength(3);
    const value = await run('getfattr', [
      '--absolute-names',
      '--only-values',
      '-n',
      'user.large',
      path.join(mount, 'f'),
    ]);
    expect(value.stdout).toEqual(large);
    expect(readFileSync(path.join(mount, 'f'), 'utf8')).toBe('data');
  });

  it('has tens of thousands of files in one directory, and 300 subdirectories', async () => {
    const files = Array.from({ length: rounds(50_000, 10_000, 0.2) }, (_, i) => ({
      path: `many/file-${i}`,
      data: i % 100 === 0 ? `${i}` : '',
    }));
    const dirs = Array.from({ length: 300 }, (_, i) => ({ path: `dirs/sub-${i}`, type: 'dir' }) as const);
    await expectEqual([tarOf(root, { path: 'many', type: 'dir' }, ...files, { path: 'dirs', type: 'dir' }, ...dirs)]);
  });

  it.each(['gnu', '0.0', '0.1', '1.0'])('equals tar for sparse files in the %s form', async (form) => {
    const dir = tempDir();
    const source = path.join(dir, 'source');
    await runOk('mkdir', [source]);
    const sparse = (name: string, size: number, ...at: number[]): void => {
      const fd = openSync(path.join(source, name), 'w');
      for (const offset of at) writeSync(fd, Buffer.alloc(5000, `${name}${offset}`), 0, 5000, offset);
      closeSync(fd);
      truncateSync(path.join(source, name), size);
    };
    sparse('start', 1_000_000, 0);
    sparse('end', 1_000_000, 995_000);
    sparse('hole', 7_000_000);
    sparse('many', 20_000_001, ...Array.from({ length: 200 }, (_, i) => i * 100_000));
    writeFileSync(path.join(source, 'plain'), 'x');
    const format = form === 'gnu' ? ['--format=gnu'] : ['--format=posix', `--sparse-version=${form}`];
    const tar = path.join(dir, 'source.tar');
    await runOk('tar', ['-c', '--sparse', ...format, '-f', tar, '-C', source, '.']);
    const { tree } = await expectEqual([readFileSync(tar)]);
    expect(tree.root.children.get('many' as never)?.extents.length).toBeGreaterThan(100);
  });

  it('serves a 5 GB sparse file', async () => {
    const dir = tempDir();
    const big = path.join(dir, 'big');
    const size = 5 * 2 ** 30 + 777;
    const runs = Array.from({ length: 100 }, (_, i) => i * 53_687_091).map((at) => at - (at % 4096));
    const fd = openSync(big, 'w+');
    for (const at of runs) writeSync(fd, Buffer.alloc(8192, `${at}`), 0, 8192, at);
    truncateSync(big, size);
    const tar = path.join(dir, 'big.tar');
    await runOk('tar', ['-c', '--sparse', '--format=posix', '-f', tar, '-C', dir, 'big']);
    const mount = await mountErofs(dir, writeErofs(mergeTars([readFileSync(tar)])), [tar]);
    const mounted = openSync(path.join(mount, 'big'), 'r');
    try {
      expect(statSync(path.join(mount, 'big')).size).toBe(size);
      for (let i = 0; i < 200; i++) {
        const at = i < 100 ? (runs[i] as number) - 1000 : ((i * 2_654_435_761) % 2 ** 32) + 2 ** 30;
        const [is, should] = [Buffer.alloc(20_000), Buffer.alloc(20_000)];
        const read = readSync(mounted, is, 0, 20_000, Math.max(at, 0));
        expect(read).toBe(readSync(fd, should, 0, 20_000, Math.max(at, 0)));
        expect(is.equals(should), `at ${at}`).toBe(true);
      }
    } finally {
      closeSync(mounted);
      closeSync(fd);
    }
  });

  it('serves a file of 5 GiB in one chunk, and what lies behind it in the layer', async () => {
    const dir = tempDir();
    const tar = path.join(dir, 'layer.tar');
    const size = 5 * 2 ** 30 + 777;
    const header = formatTarHeader(tarMember({ path: 'large' }, size));
    const behind = header.length + Math.ceil(size / 512) * 512;
    const far = tarOf({ path: 'far', data: 'far away' });
    const reader = new TarReader();
    const entries = [...reader.push(header)];
    const zeros = Buffer.alloc(64 * 2 ** 20);
    for (let at = header.length; at < behind; at += zeros.length) reader.push(zeros.subarray(0, behind - at));
    entries.push(...reader.push(far));
    const fd = openSync(tar, 'w');
    writeSync(fd, header);
    writeSync(fd, 'the end', header.length + size - 7);
    writeSync(fd, far, 0, far.length, behind);
    closeSync(fd);
    const image = writeErofs(mergeLayers([{ entries, streamSize: reader.finish().streamSize }]));
    expect(image.length).toBeLessThan(4096);
    const mount = await mountErofs(dir, image, [tar]);
    expect(readFileSync(path.join(mount, 'far'), 'utf8')).toBe('far away');
    expect(await runOk('tail', ['-c', '7', path.join(mount, 'large')])).toBe('the end');
  });

  it('equals umoci for layers with whiteouts, opaque directories and links', async () => {
    const file = (name: string, data = name): Described => ({ path: name, data });
    const dir = (name: string, mode = 0o755): Described => ({ path: name, type: 'dir', mode });
    await expectEqual(
      [
        tarOf(
          root,
          dir('etc'),
          file('etc/a'),
          file('etc/b'),
          dir('opq'),
          file('opq/old'),
          dir('opq/sub'),
          file('opq/sub/x'),
          dir('gone'),
          file('gone/x'),
          { path: 'lnk', type: 'symlink', link: 'etc' },
          file('turns'),
          dir('tree'),
          file('tree/leaf'),
          { path: 'hard', type: 'hardlink', link: 'etc/a' },
          file('stays'),
        ),
        tarOf(
          root,
          { path: '.wh.gone' },
          dir('etc', 0o700),
          { path: 'etc/.wh.b' },
          dir('opq'),
          { path: 'opq/.wh..wh..opq' },
          file('opq/new'),
          dir('turns'),
          file('turns/inside'),
          { path: 'tree', type: 'symlink', link: 'etc' },
          { path: 'hard2', type: 'hardlink', link: 'etc/a' },
          { path: 'lower', type: 'hardlink', link: 'stays' },
        ),
        tarOf(root, file('etc/a', 'replaced'), file('gone', 'back as a file'), file('lnk/through', 'a link')),
      ],
      unpackWithUmoci,
    );
  });

  it('mounts 30 layers, some without data', async () => {
    const tars = Array.from({ length: 30 }, (_, i) => tarOf(root, { path: `f${i}`, data: i % 2 === 0 ? `${i}` : '' }));
    await expectEqual(tars);
  });
});

describe('writeErofs', () => {
  it('writes the same bytes for the same tree', () => {
    const tar = tarOf({ path: 'b', data: 'b' }, { path: 'a', xattrs: { 'user.z': '1', 'user.a': '2' } });
    const other = tarOf({ path: 'a', xattrs: { 'user.a': '2', 'user.z': '1' } });
    expect(writeErofs(mergeTars([tar])).equals(writeErofs(mergeTars([tar])))).toBe(true);
    expect(
      writeErofs(mergeTars([other])).equals(
        writeErofs(mergeTars([tarOf({ path: 'a', xattrs: { 'user.z': '1', 'user.a': '2' } })])),
      ),
    ).toBe(true);
  });

  it.each<[string, Buffer, RegExp]>([
    [
      'runs off the block grid',
      archive(
        oldGnuSparse(
          'odd',
          4096,
          [
            [100, 512],
            [4096, 0],
          ],
          Buffer.alloc(512),
        ),
      ),
      /\/odd: .* not aligned to 512/,
    ],
    [
      'runs that end inside a block',
      archive(
        oldGnuSparse(
          'odd',
          4096,
          [
            [0, 100],
            [1024, 512],
          ],
          Buffer.alloc(612),
        ),
      ),
      /\/odd: .* not aligned/,
    ],
    [
      'devices past 12 and 20 bits',
      archive({ name: 'dev', flag: '3', patch: (b) => base256(4096, 8).copy(b, 329) }),
      /\/dev: device 4096:0/,
    ],
    [
      'attributes with long names',
      tarOf({ path: 'a/f', xattrs: { [`user.${'n'.repeat(256)}`]: '' } }),
      /\/a\/f: extended attribute user\.n+ is too long/,
    ],
    [
      'attributes with large values',
      tarOf({ path: 'f', xattrs: { 'user.x': Buffer.alloc(65_536) } }),
      /user\.x is too long/,
    ],
    [
      'too many attributes',
      tarOf({ path: 'f', xattrs: Object.fromEntries([1, 2, 3, 4, 5].map((n) => [`user.${n}`, Buffer.alloc(60_000)])) }),
      /\/f: its extended attributes need/,
    ],
    [
      'a terabyte of scattered runs',
      archive(
        oldGnuSparse(
          'lastlog',
          2 ** 40,
          [
            [4096, 512],
            [2 ** 39 + 512, 512],
          ],
          Buffer.alloc(1024),
        ),
      ),
      /\/lastlog: its holes need an index of 2147483648 chunks/,
    ],
  ])('refuses %s, naming the file', (_, tar, message) => {
    expect(() => writeErofs(mergeTars([tar]))).toThrow(message);
  });

  it('refuses data beyond 2 TiB of a layer', () => {
    const entries = readTar(tarOf({ path: 'f', data: 'x' }), { startOffset: 2 ** 41 });
    expect(() => writeErofs(mergeLayers([{ entries }]))).toThrow(/\/f: its data lie beyond byte/);
  });

  it('expresses a terabyte of one run or of holes in few chunks', () => {
    const tar = archive(oldGnuSparse('hole', 2 ** 50, [[2 ** 50, 0]], Buffer.alloc(0)), memberBytes({ path: 'next' }));
    expect(writeErofs(mergeTars([tar])).length).toBeLessThan(16_384);
  });
});
