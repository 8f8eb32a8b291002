import {
  EROFS_COMPAT_MTIME,
  EROFS_COMPAT_SB_CHKSUM,
  EROFS_DEVICE_SLOT,
  EROFS_INCOMPAT_CHUNKED_FILE,
  EROFS_INCOMPAT_DEVICE_TABLE,
  EROFS_SUPER_MAGIC,
  EROFS_SUPER_OFFSET,
  EROFS_SUPER_SIZE,
} from './abi.ts';
import { crc32c } from './crc32c.ts';

export interface Superblock {
  readonly blockSize: number;
  readonly rootNid: number;
  readonly inodes: number;
  /** Blocks of the image itself. */
  readonly blocks: number;
  /** First block of the shared attributes. */
  readonly xattrBlock: number;
  /** Blocks of each extra device, in order. */
  readonly deviceBlocks: readonly number[];
}

/** Offset of the first byte behind superblock and device table. */
export function superblockEnd(devices: number): number {
  return EROFS_SUPER_OFFSET + EROFS_SUPER_SIZE + devices * EROFS_DEVICE_SLOT;
}

/**
 * Writes superblock and device table. Volume name, UUID and build time stay zero: the same tree gives the same bytes.
 * Must come last, because the checksum covers what else lies in the first block.
 */
export function writeSuperblock(image: Buffer, sb: Superblock): void {
  const at = EROFS_SUPER_OFFSET;
  const devices = sb.deviceBlocks.length;
  image.writeUInt32LE(EROFS_SUPER_MAGIC, at);
  image.writeUInt32LE(EROFS_COMPAT_SB_CHKSUM | EROFS_COMPAT_MTIME, at + 8);
  image.writeUInt8(Math.log2(sb.blockSize), at + 12);
  image.writeUInt16LE(sb.rootNid, at + 14);
  image.writeUInt32LE(sb.inodes, at + 16);
  image.writeUInt32LE(sb.blocks, at + 36);
  image.writeUInt32LE(sb.xattrBlock, at + 44);
  image.writeUInt32LE(EROFS_INCOMPAT_CHUNKED_FILE | (devices > 0 ? EROFS_INCOMPAT_DEVICE_TABLE : 0), at + 80);
  image.writeUInt16LE(devices, at + 86);
  image.writeUInt16LE((at + EROFS_SUPER_SIZE) / EROFS_DEVICE_SLOT, at + 88);
  sb.deviceBlocks.forEach((blocks, i) => {
    image.writeUInt32LE(blocks, at + EROFS_SUPER_SIZE + i * EROFS_DEVICE_SLOT + 64);
  });
  // Blocks up to the superblock's own offset are covered from it for one block, larger ones to their end.
  const covered = sb.blockSize > EROFS_SUPER_OFFSET ? sb.blockSize - EROFS_SUPER_OFFSET : sb.blockSize;
  image.writeUInt32LE(0, at + 4);
  image.writeUInt32LE(crc32c(image.subarray(at, at + covered)), at + 4);
}
