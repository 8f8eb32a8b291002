// Where everything goes: superblock and devices, inodes with what belongs to them, blocks of plain data, shared attributes.
import { constants } from 'node:buffer';
import { TreeError } from '../errors.ts';
import type { TreeExtent, TreeNode } from '../tree.ts';
import {
  EROFS_CHUNK_BASED,
  EROFS_CHUNK_INDEX_SIZE,
  EROFS_FLAT_INLINE,
  EROFS_FLAT_PLAIN,
  EROFS_INODE_SIZE,
  EROFS_NID_UNIT,
  EROFS_XATTR_HEADER,
} from './abi.ts';
import { type ChunkPlan, planChunks } from './chunk.ts';
import { directorySize } from './dirent.ts';
import { checkInode } from './inode.ts';
import type { InodeNumbering } from './numbering.ts';
import { type XattrPlan, XattrTable } from './xattr.ts';

export interface LayoutOptions {
  readonly blockSize: number;
  /** False: every file is one hole. */
  readonly data: boolean;
  /** Most bytes of chunk indexes of the whole image. */
  readonly maxIndexSize: number;
}

/** Columns by inode position. */
export interface ImageLayout {
  /** Byte offset of the inode in the image. */
  readonly inodeAt: Float64Array;
  /** EROFS data layout. */
  readonly layouts: Uint8Array;
  /** Bytes of a directory's, link's or file's content. */
  readonly sizes: Float64Array;
  /** First block of plain data. */
  readonly firstBlock: Uint32Array;
  readonly xattrs: readonly (XattrPlan | undefined)[];
  readonly chunks: readonly (ChunkPlan | undefined)[];
  readonly table: XattrTable;
  readonly xattrBlock: number;
  /** Bytes of the whole image, a multiple of the block size. */
  readonly imageSize: number;
}

export const noExtents: readonly TreeExtent[] = [];

/**
 * Errors: ERR_TREE_UNALIGNED, ERR_TREE_VALUE, ERR_TREE_LIMIT.
 */
export function layOut(numbering: InodeNumbering, start: number, options: LayoutOptions): ImageLayout {
  const { nodes, listings, nameOf } = numbering;
  const { blockSize } = options;
  const count = nodes.length;
  const table = new XattrTable();
  nodes.forEach((node, i) => {
    checkInode(node, () => nameOf(i));
    if (node.xattrs.size > 0) table.add(node.xattrs, () => nameOf(i));
  });
  const sharedSize = table.share();

  const inodeAt = new Float64Array(count);
  const layouts = new Uint8Array(count);
  const sizes = new Float64Array(count);
  const firstBlock = new Uint32Array(count);
  const xattrs: (XattrPlan | undefined)[] = [];
  const chunks: (ChunkPlan | undefined)[] = [];
  let indexSize = 0;
  let dataBlocks = 0;
  let at = alignUp(start, EROFS_NID_UNIT);
  for (let i = 0; i < count; i++) {
    const node = nodes[i] as TreeNode;
    const name = (): string => nameOf(i);
    const xattr = node.xattrs.size === 0 ? undefined : table.plan(node.xattrs, name);
    xattrs.push(xattr);
    const head = EROFS_INODE_SIZE + (xattr?.size ?? 0);
    const listing = listings[i];
    const size = listing === undefined ? node.size : directorySize(listing.names, blockSize);
    sizes[i] = size;
    let chunk: ChunkPlan | undefined;
    let length = head;
    if (node.type === 'file' && size > 0) {
      chunk = planChunks(size, options.data ? node.extents : noExtents, blockSize, name);
      const bytes = chunk.count * EROFS_CHUNK_INDEX_SIZE;
      indexSize += bytes;
      if (indexSize > options.maxIndexSize) throw tooManyChunks(name(), chunk, options.maxIndexSize);
      layouts[i] = EROFS_CHUNK_BASED;
      length = alignUp(head, EROFS_CHUNK_INDEX_SIZE) + bytes;
    } else if ((node.type === 'dir' || node.type === 'symlink') && head + size <= blockSize) {
      // The kernel reads inline data only when they do not cross a block.
      layouts[i] = EROFS_FLAT_INLINE;
      length = head + size;
      if ((at % blockSize) + length > blockSize) at = alignUp(at, blockSize);
    } else {
      layouts[i] = EROFS_FLAT_PLAIN;
      if (size > 0) firstBlock[i] = dataBlocks;
      dataBlocks += Math.ceil(size / blockSize);
    }
    chunks.push(chunk);
    inodeAt[i] = at;
    at = alignUp(at + length, EROFS_NID_UNIT);
  }

  // fsck.erofs 1.5 reads an attribute header behind every inode, also behind the last one when it has none.
  const dataStart = Math.ceil((at + EROFS_XATTR_HEADER) / blockSize);
  for (let i = 0; i < count; i++) {
    if (layouts[i] === EROFS_FLAT_PLAIN && (sizes[i] as number) > 0)
      firstBlock[i] = (firstBlock[i] as number) + dataStart;
  }
  const xattrBlock = dataStart + dataBlocks;
  const imageSize = alignUp(xattrBlock * blockSize + sharedSize, blockSize);
  if (imageSize > constants.MAX_LENGTH) {
    throw new TreeError('ERR_TREE_LIMIT', `the image of this tree would need ${imageSize} bytes`);
  }
  return { inodeAt, layouts, sizes, firstBlock, xattrs, chunks, table, xattrBlock, imageSize };
}

function tooManyChunks(name: string, chunk: ChunkPlan, limit: number): TreeError {
  const detail = `its holes need an index of ${chunk.count} chunks, and all indexes together may have ${limit} bytes`;
  return new TreeError('ERR_TREE_LIMIT', `${name}: ${detail}`);
}

function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
