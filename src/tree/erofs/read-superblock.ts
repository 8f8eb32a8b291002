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
import { checkZero, type ImageBytes, imageError, uint64 } from './image-bytes.ts';

export interface ImageFacts {
  readonly rootNid: number;
  readonly inodes: number;
  /** Byte offset of the shared attributes. */
  readonly sharedXattrs: number;
  /** Bytes of the one device, a multiple of the block size. */
  readonly deviceSize: number;
}

export const blockSize = 512;

const compat = EROFS_COMPAT_SB_CHKSUM | EROFS_COMPAT_MTIME;
const incompat = EROFS_INCOMPAT_CHUNKED_FILE | EROFS_INCOMPAT_DEVICE_TABLE;
const tableSlot = (EROFS_SUPER_OFFSET + EROFS_SUPER_SIZE) / EROFS_DEVICE_SLOT;

/**
 * Superblock and device table of an image of one layer. Fields that are not known are 0.
 * Errors: ERR_TREE_IMAGE.
 */
export function readSuperblock(image: ImageBytes): ImageFacts {
  checkZero(image.range(0, EROFS_SUPER_OFFSET, 'its superblock'), 0, EROFS_SUPER_OFFSET, 'front of its superblock');
  const sb = image.range(EROFS_SUPER_OFFSET, EROFS_SUPER_SIZE + EROFS_DEVICE_SLOT, 'the end of its device table');
  if (sb.readUInt32LE(0) !== EROFS_SUPER_MAGIC) throw imageError('has no superblock');
  if (sb[12] !== Math.log2(blockSize)) throw imageError(`has blocks of 2^${sb[12]} bytes`);
  checkSum(image, sb.readUInt32LE(4));
  if (sb.readUInt32LE(8) !== compat || sb.readUInt32LE(80) !== incompat) {
    throw imageError(`has unknown features (${sb.readUInt32LE(8)}, ${sb.readUInt32LE(80)})`);
  }
  if (sb.readUInt16LE(86) !== 1 || sb.readUInt16LE(88) !== tableSlot) throw imageError('is not that of one layer');
  const unknown = 'its superblock';
  checkZero(sb, 13, 14, unknown);
  checkZero(sb, 24, 36, unknown);
  checkZero(sb, 40, 44, unknown);
  checkZero(sb, 48, 80, unknown);
  checkZero(sb, 84, 86, unknown);
  checkZero(sb, 90, EROFS_SUPER_SIZE, unknown);
  const device = sb.subarray(EROFS_SUPER_SIZE);
  checkZero(device, 0, 64, 'its device table');
  checkZero(device, 68, EROFS_DEVICE_SLOT, 'its device table');
  if (sb.readUInt32LE(36) * blockSize !== image.size) {
    throw imageError(`has ${image.size} bytes in place of ${sb.readUInt32LE(36)} blocks`);
  }
  return {
    rootNid: sb.readUInt16LE(14),
    inodes: uint64(sb, 16, 'number of inodes'),
    sharedXattrs: sb.readUInt32LE(44) * blockSize,
    deviceSize: device.readUInt32LE(64) * blockSize,
  };
}

/** The rest of the block counts, with 0 in place of the sum itself. */
function checkSum(image: ImageBytes, stated: number): void {
  const bytes = Buffer.from(image.range(EROFS_SUPER_OFFSET, blockSize, 'the end of its first block'));
  bytes.writeUInt32LE(0, 4);
  if (crc32c(bytes) !== stated) throw imageError('has a wrong checksum');
}
