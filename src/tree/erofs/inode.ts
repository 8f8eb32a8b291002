import { TreeError } from '../errors.ts';
import type { TreeNode } from '../tree.ts';
import { EROFS_CHUNK_INDEXES, EROFS_INODE_EXTENDED, fileType } from './abi.ts';

const maxMajor = 0xfff;
const maxMinor = 0xfffff;

/**
 * What an extended inode cannot hold.
 * Errors: ERR_TREE_VALUE, naming the file by `name`.
 */
export function checkInode(node: TreeNode, name: () => string): void {
  const bad = badField(node);
  if (bad !== undefined) throw new TreeError('ERR_TREE_VALUE', `${name()}: ${bad}`);
}

function badField(node: TreeNode): string | undefined {
  if (!isUint32(node.uid) || !isUint32(node.gid)) return `owner ${node.uid}:${node.gid} does not fit 32 bits`;
  if (!Number.isSafeInteger(node.mtime)) return `impossible time ${node.mtime}`;
  if (!(node.mtimeNs >= 0 && node.mtimeNs < 1e9)) return `impossible nanoseconds ${node.mtimeNs}`;
  if (!Number.isSafeInteger(node.size) || node.size < 0) return `impossible size ${node.size}`;
  if (node.type !== 'char' && node.type !== 'block') return undefined;
  const { devMajor, devMinor } = node;
  const fits = isUint32(devMajor) && isUint32(devMinor) && devMajor <= maxMajor && devMinor <= maxMinor;
  return fits ? undefined : `device ${devMajor}:${devMinor} does not fit 12 and 20 bits`;
}

export interface InodeFields {
  /** EROFS_FLAT_PLAIN, EROFS_FLAT_INLINE or EROFS_CHUNK_BASED. */
  readonly layout: number;
  readonly xattrSize: number;
  /** Bytes; differs from the node's for directories. */
  readonly size: number;
  /** First block of plain data, or log2 of the blocks per chunk. */
  readonly place: number;
  readonly ino: number;
}

/**
 * Writes an extended inode.
 *
 *   0 u16 format · 2 u16 xattr count · 4 u16 mode · 8 u64 size · 16 u32 block, device or chunk format · 20 u32 ino
 *   24 u32 uid · 28 u32 gid · 32 s64 mtime · 40 u32 mtime ns · 44 u32 nlink · 48 reserved
 */
export function writeInode(image: Buffer, at: number, node: TreeNode, fields: InodeFields): void {
  image.writeUInt16LE(EROFS_INODE_EXTENDED | (fields.layout << 1), at);
  // 1 stands for the 12-byte header, then one per 4 bytes.
  image.writeUInt16LE(fields.xattrSize === 0 ? 0 : (fields.xattrSize - 12) / 4 + 1, at + 2);
  image.writeUInt16LE(fileType[node.type].mode | (node.mode & 0o7777), at + 4);
  writeInt64(image, fields.size, at + 8);
  image.writeUInt32LE(dataField(node, fields), at + 16);
  image.writeUInt32LE(fields.ino, at + 20);
  image.writeUInt32LE(node.uid, at + 24);
  image.writeUInt32LE(node.gid, at + 28);
  writeInt64(image, node.mtime, at + 32);
  image.writeUInt32LE(node.mtimeNs, at + 40);
  image.writeUInt32LE(node.nlink, at + 44);
}

function dataField(node: TreeNode, { layout, place }: InodeFields): number {
  if (node.type === 'char' || node.type === 'block') return encodeDevice(node.devMajor, node.devMinor);
  return layout === 4 ? EROFS_CHUNK_INDEXES | place : place;
}

/** The kernel's new_encode_dev. */
function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

function writeInt64(image: Buffer, value: number, at: number): void {
  const high = Math.floor(value / 0x1_0000_0000);
  image.writeUInt32LE(value - high * 0x1_0000_0000, at);
  image.writeInt32LE(high, at + 4);
}

function isUint32(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 0xffffffff;
}
