// A small tree of every shape of inode over two layer streams, for tests of whatever serves an EROFS image.
import { newDirectory, newNode } from '../../src/tree/node.ts';
import type { NodeType, Tree, TreeExtent, TreeNode } from '../../src/tree/tree.ts';
import { type ByteString, byteStringFrom, byteStringFromText } from '../../src/util/byte-string.ts';

export const sampleStreams = [4 << 20, 1 << 20] as const;
export const manyFiles = 3000;

const name = byteStringFromText;

function node(type: NodeType, mode: number, fields: Partial<TreeNode> = {}): TreeNode {
  return Object.assign(newNode(type, mode), { nlink: type === 'dir' ? 2 : 1, mtime: 1_700_000_000 }, fields);
}

function file(mode: number, size: number, extents: readonly TreeExtent[], fields: Partial<TreeNode> = {}): TreeNode {
  return node('file', mode, { size, extents, ...fields });
}

const at = (layer: number, streamOffset: number, size: number, fileOffset = 0): TreeExtent => ({
  layer,
  fileOffset,
  streamOffset,
  size,
});

const xattrs = (o: Record<string, Uint8Array>): ReadonlyMap<ByteString, Uint8Array> =>
  new Map(Object.entries(o).map(([key, value]) => [name(key), value]));

/** version 2; user::rw-, user:1000:r--, group::---, mask::r--, other::--- */
const acl = Buffer.from(
  ['02000000', '01000600ffffffff', '02000400e8030000', '04000000ffffffff', '10000400ffffffff', '20000000ffffffff'].join(
    '',
  ),
  'hex',
);

export function sampleTree(): Tree {
  const root = newDirectory();
  Object.assign(root, { nlink: 5, mtime: 1_600_000_000, mtimeNs: 5, mode: 0o755 });
  const put = (dir: TreeNode, key: ByteString, child: TreeNode): TreeNode => {
    dir.children?.set(key, child);
    return child;
  };
  put(root, name('empty'), file(0o644, 0, []));
  put(root, name('one'), file(0o644, 1, [at(0, 512, 1)]));
  put(root, name('big'), file(0o755, (3 << 20) + 17, [at(0, 4096, (3 << 20) + 17)]));
  put(root, name('other-layer'), file(0o644, 70_000, [at(1, 1024, 70_000)]));
  put(root, name('sparse'), file(0o644, 1 << 20, [at(0, 1024, 4096, 8192), at(1, 512, 1024, 512 << 10)]));
  put(root, name('secret'), file(0o600, 100, [at(0, 2048, 100)]));
  put(root, name('setuid'), file(0o4755, 10, [at(0, 2048, 10)], { uid: 3_000_000, gid: 70_000 }));
  put(root, name('old'), file(0o444, 10, [at(0, 2048, 10)], { mtime: -5, mtimeNs: 999_999_999 }));
  put(root, byteStringFrom(Buffer.from([0x66, 0xff, 0x0a, 0x80])), file(0o644, 3, [at(0, 3072, 3)]));
  put(root, name('n'.repeat(255)), file(0o644, 3, [at(0, 3072, 3)]));
  for (const early of ['-dash', '!bang', '+plus', ' space']) put(root, name(early), file(0o644, 3, [at(0, 3072, 3)]));
  put(root, name('link'), node('symlink', 0o777, { link: name('/no/where'), size: 9 }));
  put(root, name('long-link'), node('symlink', 0o777, { link: name('x/'.repeat(400)), size: 800 }));
  put(root, name('null'), node('char', 0o666, { devMajor: 1, devMinor: 3 }));
  put(root, name('disk'), node('block', 0o660, { devMajor: 259, devMinor: 70_001 }));
  put(root, name('pipe'), node('fifo', 0o622));
  put(
    root,
    name('tagged'),
    file(0o755, 5, [at(0, 3072, 5)], {
      xattrs: xattrs({
        'user.colour': Buffer.from('green\0blue'),
        'user.empty': Buffer.alloc(0),
        'security.capability': Buffer.from('0100000200200000000000000000000000000000', 'hex'),
        'trusted.mark': Buffer.from('t'),
        'user.long': Buffer.alloc(3000, 7),
      }),
    }),
  );
  put(
    root,
    name('shared-file'),
    file(0o640, 5, [at(0, 3072, 5)], { xattrs: xattrs({ 'system.posix_acl_access': acl }) }),
  );
  const many = put(root, name('many'), node('dir', 0o755));
  for (let i = 0; i < manyFiles; i++) put(many, name(`f${i}`), file(0o644, 1, [at(0, 512 + 512 * (i % 100), 1)]));
  const deep = put(root, name('deep'), node('dir', 0o755, { nlink: 3 }));
  const inner = put(deep, name('inner'), node('dir', 0o1777));
  const twice = put(inner, name('hard'), file(0o644, 5, [at(0, 3072, 5)], { nlink: 2 }));
  put(deep, name('again'), twice);
  put(root, name('closed'), node('dir', 0o700));
  return { root, layers: sampleStreams.length };
}
