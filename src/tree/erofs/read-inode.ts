import type { ByteString } from '../../util/byte-string.ts';
import { newNode } from '../node.ts';
import type { NodeType, TreeNode } from '../tree.ts';
import {
  EROFS_CHUNK_BASED,
  EROFS_FLAT_INLINE,
  EROFS_FLAT_PLAIN,
  EROFS_INODE_EXTENDED,
  EROFS_INODE_SIZE,
  EROFS_NID_UNIT,
  EROFS_XATTR_HEADER,
  fileType,
} from './abi.ts';
import { checkZero, type ImageBytes, imageError, int64, uint64 } from './image-bytes.ts';
import { blockSize } from './read-superblock.ts';

const types: ReadonlyMap<number, NodeType> = new Map(
  Object.entries(fileType).map(([type, { mode }]) => [mode, type as NodeType]),
);
const maxTarget = 4095;

/** An inode as it stands in the image. */
export interface ReadInode {
  /** Without attributes, extents and children; `nlink` is 0. */
  readonly node: TreeNode;
  readonly ino: number;
  /** As stated. */
  readonly nlink: number;
  /** Byte offset and size of the extended attributes. */
  readonly xattrAt: number;
  readonly xattrSize: number;
  /** Where directory data are; undefined for anything else. */
  readonly listing: { readonly at: number; readonly size: number } | undefined;
  /** Of a file that is not empty: format of its chunks, and where their index begins. */
  readonly chunks: { readonly format: number; readonly at: number } | undefined;
}

/** Errors: ERR_TREE_IMAGE. */
export function readInode(image: ImageBytes, nid: number): ReadInode {
  const at = nid * EROFS_NID_UNIT;
  const bytes = image.range(at, EROFS_INODE_SIZE, `inode ${nid}`);
  const format = bytes.readUInt16LE(0);
  const layout = format >> 1;
  const mode = bytes.readUInt16LE(4);
  const type = types.get(mode & 0o170000);
  if ((format & 1) !== EROFS_INODE_EXTENDED || type === undefined)
    throw imageError(`has an inode ${nid} of an unknown kind`);
  checkZero(bytes, 6, 8, `inode ${nid}`);
  checkZero(bytes, 48, EROFS_INODE_SIZE, `inode ${nid}`);
  const node = newNode(type, mode & 0o7777);
  node.uid = bytes.readUInt32LE(24);
  node.gid = bytes.readUInt32LE(28);
  node.mtime = int64(bytes, 32, 'time');
  node.mtimeNs = bytes.readUInt32LE(40);
  if (node.mtimeNs >= 1e9) throw imageError('has an impossible time');
  const count = bytes.readUInt16LE(2);
  const xattrSize = count === 0 ? 0 : EROFS_XATTR_HEADER + 4 * (count - 1);
  const size = uint64(bytes, 8, 'size');
  const behind = at + EROFS_INODE_SIZE + xattrSize;
  const place = bytes.readUInt32LE(16);
  const inode = {
    node,
    ino: bytes.readUInt32LE(20),
    nlink: bytes.readUInt32LE(44),
    xattrAt: at + EROFS_INODE_SIZE,
    xattrSize,
    listing: undefined,
    chunks: undefined,
  };
  if (type === 'file' && size > 0) {
    if (layout !== EROFS_CHUNK_BASED) throw unknownLayout(nid);
    node.size = size;
    return { ...inode, chunks: { format: place, at: Math.ceil(behind / 8) * 8 } };
  }
  if (type === 'dir' || type === 'symlink') {
    const content = contentAt({ nid, layout, behind, size, place });
    image.range(content, size, `the content of inode ${nid}`);
    if (type === 'dir') return { ...inode, listing: { at: content, size } };
    if (size === 0 || size > maxTarget) throw imageError(`has a link to ${size} bytes`);
    node.link = image.text(content, content + size) as ByteString;
    if (node.link.includes('\0')) throw imageError('has a link with a NUL byte in its target');
    node.size = size;
    return inode;
  }
  if (layout !== EROFS_FLAT_PLAIN || size !== 0) throw unknownLayout(nid);
  if (type === 'char' || type === 'block') {
    // The kernel's new_decode_dev.
    node.devMajor = (place & 0xfff00) >>> 8;
    node.devMinor = ((place & 0xff) | ((place >>> 12) & 0xfff00)) >>> 0;
  } else if (place !== 0) {
    throw unknownLayout(nid);
  }
  return inode;
}

interface Content {
  readonly nid: number;
  readonly layout: number;
  readonly behind: number;
  readonly size: number;
  readonly place: number;
}

/** Byte offset. Inline content is in the block of its inode, as the kernel wants it. */
function contentAt({ nid, layout, behind, size, place }: Content): number {
  if (layout === EROFS_FLAT_PLAIN) return place * blockSize;
  if (layout !== EROFS_FLAT_INLINE || place !== 0) throw unknownLayout(nid);
  const start = nid * EROFS_NID_UNIT;
  if (size > blockSize || Math.floor(start / blockSize) !== Math.floor((behind + size - 1) / blockSize))
    throw imageError(`has inline content of inode ${nid} in another block`);
  return behind;
}

function unknownLayout(nid: number): Error {
  return imageError(`has an inode ${nid} of an unknown layout`);
}
