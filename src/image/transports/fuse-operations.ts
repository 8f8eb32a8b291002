// The file operations that libfuse 2 asks for, answered from the in-memory tree.
import { constants } from 'node:os';
import type { TreeNode } from '../../tree/tree.ts';
import { byteStringFromText } from '../../util/byte-string.ts';
import { negativeErrno } from '../errno.ts';
import type { CarriedTree } from './carried-tree.ts';

type Callback<T extends unknown[]> = (error: number, ...values: T) => void;

/** As fuse-native hands it to `getattr` and `readdir`; times in ms. */
export interface FuseStat {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly nlink: number;
  readonly ino: number;
  readonly rdev: number;
  readonly blksize: number;
  readonly blocks: number;
  readonly atime: number;
  readonly mtime: number;
  readonly ctime: number;
}

export interface FuseOperations {
  getattr(path: string, done: Callback<[FuseStat?]>): void;
  readdir(path: string, done: Callback<[string[]?, FuseStat[]?]>): void;
  readlink(path: string, done: Callback<[string?]>): void;
  getxattr(path: string, name: string, position: number, done: Callback<[Buffer?]>): void;
  listxattr(path: string, done: Callback<[string[]?]>): void;
  statfs(path: string, done: Callback<[Record<string, number>?]>): void;
  read(path: string, fd: number, buffer: Buffer, length: number, offset: number, done: Callback<[]>): void;
}

const { ENOENT, EINVAL, ENODATA, ENOTDIR } = constants.errno;
const typeBits = { file: 0o100000, dir: 0o040000, symlink: 0o120000, char: 0o020000, block: 0o060000, fifo: 0o010000 };

export type ReadFile = (node: TreeNode, offset: number, length: number) => Promise<Uint8Array>;

/** A successful read is answered with its byte count in place of the error. */
export function fuseOperations(tree: CarriedTree, read: ReadFile): FuseOperations {
  const stat = (node: TreeNode) => statOf(node, tree.inode(node));
  return {
    getattr: (path, done) => {
      const node = tree.lookup(path);
      return node === undefined ? done(-ENOENT) : done(0, stat(node));
    },
    readdir: (path, done) => {
      const node = tree.lookup(path);
      if (node === undefined) return done(-ENOENT);
      if (node.type !== 'dir') return done(-ENOTDIR);
      const names = tree.names(node);
      return done(
        0,
        ['.', '..', ...names.map(({ name }) => name)],
        [stat(node), stat(node), ...names.map((each) => stat(each.node))],
      );
    },
    readlink: (path, done) => {
      const node = tree.lookup(path);
      if (node === undefined) return done(-ENOENT);
      return node.type === 'symlink' ? done(0, tree.link(node)) : done(-EINVAL);
    },
    getxattr: (path, name, _position, done) => {
      const value = tree.lookup(path)?.xattrs.get(byteStringFromText(name));
      return value === undefined ? done(-ENODATA) : done(0, Buffer.from(value));
    },
    listxattr: (path, done) => {
      const node = tree.lookup(path);
      return node === undefined ? done(-ENOENT) : done(0, [...node.xattrs.keys()]);
    },
    statfs: (_path, done) => done(0, { bsize: 4096, frsize: 4096, namemax: 255 }),
    read: (path, _fd, buffer, length, offset, done) => {
      const node = tree.lookup(path);
      if (node === undefined) return done(-ENOENT);
      read(node, offset, length).then(
        (bytes) => {
          buffer.set(bytes);
          done(bytes.length);
        },
        (error: unknown) => done(negativeErrno(error)),
      );
    },
  };
}

/** Times before 1970 and below a millisecond have no form on this way; they show as 1970 and rounded down. */
function statOf(node: TreeNode, ino: number): FuseStat {
  const time = Math.max(0, node.mtime * 1000 + Math.floor(node.mtimeNs / 1_000_000));
  return {
    mode: typeBits[node.type] | node.mode,
    uid: node.uid,
    gid: node.gid,
    size: node.type === 'dir' ? 4096 : node.size,
    nlink: node.nlink,
    ino,
    rdev: deviceNumber(node.devMajor, node.devMinor),
    blksize: 4096,
    blocks: node.type === 'file' ? Math.ceil(node.size / 512) : 0,
    atime: time,
    mtime: time,
    ctime: time,
  };
}

/** makedev(3) for the 12-bit majors and 20-bit minors that Linux has. */
function deviceNumber(major: number, minor: number): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0;
}
