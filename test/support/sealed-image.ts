// EROFS images with other bytes than their writer gave them.
import { crc32c } from '../../src/tree/erofs/crc32c.ts';

/** A changed copy, its checksum made right again. */
export function sealed(image: Uint8Array, change: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.from(image);
  change(bytes);
  if (bytes.length < 1536) return bytes;
  bytes.writeUInt32LE(0, 1028);
  bytes.writeUInt32LE(crc32c(bytes.subarray(1024, 1536)), 1028);
  return bytes;
}

/** Byte offset of the inode whose place in the archive is `ino`. */
export function inodeAt(image: Buffer, ino: number): number {
  const end = image.readUInt32LE(1024 + 44) * 512;
  for (let at = 1280; at < end; at += 32) {
    const isInode = (image.readUInt16LE(at) & 1) === 1 && image.readUInt32LE(at + 48) === 0;
    if (isInode && image.readUInt32LE(at + 20) === ino && image.readUInt16LE(at + 4) >= 0o010000) return at;
  }
  throw new Error(`no inode ${ino}`);
}

/** Byte offset of the directory entry `name` of an inode with inline content and no attributes. */
export function direntAt(image: Buffer, directory: number, name: string): number {
  const content = directory + 64;
  const count = image.readUInt16LE(content + 8) / 12;
  const size = image.readUInt32LE(directory + 8);
  for (let i = 0; i < count; i++) {
    const at = content + 12 * i;
    const end = i + 1 < count ? image.readUInt16LE(at + 20) : size;
    if (image.toString('latin1', content + image.readUInt16LE(at + 8), content + end) === name) return at;
  }
  throw new Error(`no ${name}`);
}
