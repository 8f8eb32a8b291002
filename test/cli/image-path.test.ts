import { describe, expect, it } from 'vitest';
import { splitSource } from '../../src/cli/commands/cp.ts';
import { jsonPath, locate } from '../../src/cli/image-path.ts';
import { walkTree } from '../../src/cli/walk.ts';
import type { NodeType, Tree, TreeNode } from '../../src/tree/tree.ts';
import { type ByteString, byteStringFromText } from '../../src/util/byte-string.ts';

function node(type: NodeType, link = '', children?: Record<string, TreeNode>): TreeNode {
  const base = { type, mode: 0o755, uid: 0, gid: 0, mtime: 0, mtimeNs: 0, size: 0, nlink: 1, devMajor: 0, devMinor: 0 };
  const rest = { link: byteStringFromText(link), xattrs: new Map(), extents: [] };
  if (type !== 'dir') return { ...base, ...rest };
  return { ...base, ...rest, children: new Map(Object.entries(children ?? {}) as [ByteString, TreeNode][]) };
}

const shell = node('file');
const tree: Tree = {
  layers: 0,
  root: node('dir', '', {
    bin: node('symlink', 'usr/bin'),
    usr: node('dir', '', { bin: node('dir', '', { sh: node('symlink', 'dash'), dash: shell }) }),
    abs: node('symlink', '/usr/bin/../bin/sh'),
    up: node('symlink', '../../../usr'),
    loop: node('symlink', 'loop'),
    'caf\xe9': node('file'),
    'a\\x41': node('file'),
    aA: node('file'),
  }) as Tree['root'],
};

describe('locate', () => {
  it.each([
    '/bin/sh',
    'bin/sh',
    '/usr/bin/dash',
    '//usr/./bin//dash',
    '/abs',
    '/up/bin/sh',
    '/../usr/bin/dash',
    '/bin/../bin/sh',
  ])('finds the shell at %s', (path) => expect(locate(tree, path, { follow: true }).node).toBe(shell));

  it('follows a last symlink only when asked, or when a slash asks for a directory', () => {
    expect(locate(tree, '/bin', { follow: false }).node.type).toBe('symlink');
    expect(locate(tree, '/bin/', { follow: false }).node.type).toBe('dir');
  });

  it('finds the root', () => {
    for (const path of ['', '/', '.', '..', '/usr/..'])
      expect(locate(tree, path, { follow: true }).node).toBe(tree.root);
    expect(locate(tree, '/usr/..', { follow: true }).path).toBe('/');
  });

  it('takes names the way listings show them, and a real backslash first', () => {
    expect(locate(tree, '/caf\\xe9', { follow: true }).path).toBe('/caf\xe9');
    expect(locate(tree, '/a\\x41', { follow: true }).path).toBe('/a\\x41');
  });

  it.each([
    ['/nothing', 'ENOENT'],
    ['/usr/bin/dash/x', 'ENOENT'],
    ['/usr/bin/dash/', 'ENOENT'],
    ['/loop', 'ERR_TREE_LOOP'],
  ])('refuses %s with %s and names it', (path, code) => {
    expect(() => locate(tree, path, { follow: true })).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(path.slice(1)) }),
    );
  });
});

describe('paths in answers', () => {
  it('adds the bytes to JSON when the text does not say them', () => {
    expect(jsonPath('/plain' as ByteString)).toEqual({ path: '/plain' });
    expect(jsonPath('/caf\xe9' as ByteString)).toEqual({ path: '/caf\\xe9', pathBase64: 'L2NhZuk=' });
  });

  it('walks parents first, names in byte order', () => {
    const paths = [...walkTree(tree.root, '/' as ByteString)].map(({ path }) => path);
    expect(paths.slice(0, 4)).toEqual(['/aA', '/a\\x41', '/abs', '/bin']);
    expect(paths.indexOf('/usr' as ByteString)).toBeLessThan(paths.indexOf('/usr/bin' as ByteString));
  });
});

describe('IMAGE:PATH', () => {
  it.each([
    ['debian:12:/etc', 'debian:12', '/etc'],
    ['debian:/etc', 'debian', '/etc'],
    ['localhost:5000/app:1:/a:/b', 'localhost:5000/app:1', '/a:/b'],
    ['oci:/var/images:/etc', 'oci:/var/images', '/etc'],
    ['oci:images:v1:/', 'oci:images:v1', '/'],
    ['oci-archive:/var/one.tar:v1:/etc', 'oci-archive:/var/one.tar:v1', '/etc'],
  ])('splits %s', (source, reference, path) => expect(splitSource(source)).toEqual({ reference, path }));

  it.each(['debian', 'debian:12', ':/etc', '/etc', 'oci:/dir', 'UPPER:/x'])('refuses %s as wrong usage', (source) => {
    expect(() => splitSource(source)).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
  });
});
