import { TreeError } from './errors.ts';
import {
  EROFS_CHUNK_BASED,
  EROFS_CHUNK_INDEX_SIZE,
  EROFS_FLAT_PLAIN,
  EROFS_INODE_SIZE,
  EROFS_NID_UNIT,
  fileType,
} from './erofs/abi.ts';
import { writeChunkIndex } from './erofs/chunk.ts';
import { writeDirectory } from './erofs/dirent.ts';
import { writeInode } from './erofs/inode.ts';
import { type ImageLayout, layOut, noExtents } from './erofs/layout.ts';
import { type InodeNumbering, numberInodes } from './erofs/numbering.ts';
import { superblockEnd, writeSuperblock } from './erofs/superblock.ts';
import { writeXattrs } from './erofs/xattr.ts';
import type { Tree, TreeNode } from './tree.ts';

export interface ErofsOptions {
  /** Bytes; default 512, the unit in which a tar places data. 4096 only serves with `data: 'holes'`. */
  readonly blockSize?: 512 | 4096;
  /**
   * - `devices` (default): device n+1 is the stream of layer n, in 512-byte blocks.
   * - `holes`: all files are one hole of their size, there are no devices: for tools that check the structure.
   */
  readonly data?: 'devices' | 'holes';
  /** Most bytes of chunk indexes, which sparse files with many small runs need; default 256 MiB. */
  readonly maxIndexSize?: number;
}

/**
 * The tree as an EROFS metadata image (Linux fs/erofs/erofs_fs.h): extended inodes, chunk-based files whose bytes lie on
 * extra devices. The same tree gives the same bytes. Numbers of inodes are below 2^32 and are byte offset / 32; the field `ino`, which
 * the kernel does not look at, has the place in the archive where the tree knows it.
 * Attributes outside user, trusted, security and POSIX ACLs are left out: the format has none.
 * Errors: TreeError ERR_TREE_UNALIGNED, ERR_TREE_VALUE, ERR_TREE_LIMIT, naming the file.
 */
export function writeErofs(tree: Tree, options: ErofsOptions = {}): Buffer {
  const blockSize = options.blockSize ?? 512;
  const data = options.data !== 'holes';
  const devices = data ? tree.layers : 0;
  const numbering = numberInodes(tree);
  const layout = layOut(numbering, superblockEnd(devices), {
    blockSize,
    data,
    maxIndexSize: options.maxIndexSize ?? 256 * 1024 * 1024,
  });
  const rootNid = nidAt(layout, 0);
  if (rootNid > 0xffff)
    throw new TreeError('ERR_TREE_LIMIT', `an image of ${devices} layers has no room for its root directory`);

  const image = Buffer.alloc(layout.imageSize);
  const deviceBlocks = Array.from({ length: devices }, () => 0);
  for (const [i, node] of numbering.nodes.entries()) {
    const ino = tree.order?.get(node) ?? i + 1;
    writeNode(image, i, numbering, layout, blockSize, data, ino);
  }
  if (data) for (const node of numbering.nodes) countBlocks(node, deviceBlocks, blockSize);
  layout.table.writeShared(image, layout.xattrBlock * blockSize);
  writeSuperblock(image, {
    blockSize,
    rootNid,
    inodes: numbering.nodes.length,
    blocks: layout.imageSize / blockSize,
    xattrBlock: layout.xattrBlock,
    deviceBlocks,
  });
  return image;
}

function writeNode(
  image: Buffer,
  i: number,
  numbering: InodeNumbering,
  layout: ImageLayout,
  blockSize: number,
  data: boolean,
  ino: number,
): void {
  const node = numbering.nodes[i] as TreeNode;
  const at = layout.inodeAt[i] as number;
  const kind = layout.layouts[i] as number;
  const xattrs = layout.xattrs[i];
  const chunks = layout.chunks[i];
  writeInode(image, at, node, {
    layout: kind,
    xattrSize: xattrs?.size ?? 0,
    size: layout.sizes[i] as number,
    place: kind === EROFS_CHUNK_BASED ? (chunks?.bits ?? 0) : (layout.firstBlock[i] as number),
    ino,
  });
  if (xattrs !== undefined && xattrs.size > 0) writeXattrs(image, at + EROFS_INODE_SIZE, xattrs);
  const behind = at + EROFS_INODE_SIZE + (xattrs?.size ?? 0);
  if (chunks !== undefined) {
    const index = Math.ceil(behind / EROFS_CHUNK_INDEX_SIZE) * EROFS_CHUNK_INDEX_SIZE;
    writeChunkIndex(image, index, chunks, data ? node.extents : noExtents, blockSize);
    return;
  }
  const content = kind === EROFS_FLAT_PLAIN ? (layout.firstBlock[i] as number) * blockSize : behind;
  const listing = numbering.listings[i];
  if (listing !== undefined) {
    const nids = new Float64Array(listing.targets.length);
    const types = new Uint8Array(listing.targets.length);
    listing.targets.forEach((target, n) => {
      nids[n] = nidAt(layout, target);
      types[n] = fileType[(numbering.nodes[target] as TreeNode).type].dirent;
    });
    writeDirectory(image, content, listing.names, nids, types, blockSize);
  } else if (node.type === 'symlink') {
    image.write(node.link, content, 'latin1');
  }
}

function countBlocks(node: TreeNode, deviceBlocks: number[], blockSize: number): void {
  for (const { layer, streamOffset, size } of node.extents) {
    const known = deviceBlocks[layer];
    if (known === undefined) throw new RangeError(`extent of layer ${layer} in a tree of ${deviceBlocks.length}`);
    deviceBlocks[layer] = Math.max(known, Math.ceil((streamOffset + size) / blockSize));
  }
}

function nidAt(layout: ImageLayout, i: number): number {
  return (layout.inodeAt[i] as number) / EROFS_NID_UNIT;
}
