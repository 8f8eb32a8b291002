import type { ByteString } from '../../util/byte-string.ts';
import { NAME_MAX } from '../path.ts';
import { EROFS_DIRENT_SIZE } from './abi.ts';
import { type ImageBytes, imageError, uint64 } from './image-bytes.ts';
import { blockSize } from './read-superblock.ts';

export interface Dirent {
  readonly name: ByteString;
  readonly nid: number;
  /** As in `fileType`. */
  readonly type: number;
}

/**
 * Names of a directory whose data are the `size` bytes at `at`, which are inside the image; ascending by unsigned bytes, `.` and `..` among them.
 * Errors: ERR_TREE_IMAGE.
 */
export function* readDirectory(image: ImageBytes, at: number, size: number): Generator<Dirent, void, undefined> {
  let before = '';
  for (let done = 0; done < size; done += blockSize) {
    const start = at + done;
    const length = Math.min(blockSize, size - done);
    const block = image.buffer.subarray(start, start + length);
    if (length < EROFS_DIRENT_SIZE) throw badDirectory();
    const names = block.readUInt16LE(8);
    const count = names / EROFS_DIRENT_SIZE;
    if (!Number.isInteger(count) || count === 0 || names > length) throw badDirectory();
    for (let i = 0; i < count; i++) {
      const dirent = i * EROFS_DIRENT_SIZE;
      const from = block.readUInt16LE(dirent + 8);
      const to = i + 1 < count ? block.readUInt16LE(dirent + EROFS_DIRENT_SIZE + 8) : endOfNames(block, from);
      if (from < names || to <= from || to > length || to - from > NAME_MAX || block[dirent + 11] !== 0)
        throw badDirectory();
      const name = block.toString('latin1', from, to);
      if (name <= before || name.includes('\0') || name.includes('/')) throw badDirectory();
      before = name;
      yield {
        name: name as ByteString,
        nid: uint64(block, dirent, 'number of an inode'),
        type: block[dirent + 10] ?? 0,
      };
    }
  }
}

/** The last name of a block ends with it or before a NUL. */
function endOfNames(block: Buffer, from: number): number {
  const end = block.indexOf(0, from);
  return end === -1 ? block.length : end;
}

function badDirectory(): Error {
  return imageError('has a damaged directory');
}
