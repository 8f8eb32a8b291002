// Directory data: in each block an array of 12-byte dirents, then their names packed behind it. Names ascend by unsigned
// bytes over the whole directory, `.` and `..` among them: the kernel searches by bisection.
import { EROFS_DIRENT_SIZE } from './abi.ts';

/** Bytes of directory data for `names`, in blocks of `blockSize`; the last block counts only what it holds. */
export function directorySize(names: readonly string[], blockSize: number): number {
  let full = 0;
  let used = 0;
  for (const name of names) {
    const need = EROFS_DIRENT_SIZE + name.length;
    if (used + need > blockSize) {
      full += blockSize;
      used = 0;
    }
    used += need;
  }
  return full + used;
}

/**
 * Writes the data at `at`. `nids` and `types` belong to `names` by position.
 *
 *   u64 nid · u16 offset of the name in the block · u8 type · u8 0
 */
export function writeDirectory(
  image: Buffer,
  at: number,
  names: readonly string[],
  nids: ArrayLike<number>,
  types: ArrayLike<number>,
  blockSize: number,
): void {
  let block = at;
  for (let first = 0; first < names.length; block += blockSize) {
    let end = first;
    let used = 0;
    for (; end < names.length; end++) {
      used += EROFS_DIRENT_SIZE + (names[end] as string).length;
      if (used > blockSize) break;
    }
    let nameAt = (end - first) * EROFS_DIRENT_SIZE;
    for (let i = first; i < end; i++) {
      const dirent = block + (i - first) * EROFS_DIRENT_SIZE;
      image.writeUInt32LE(nids[i] as number, dirent);
      image.writeUInt16LE(nameAt, dirent + 8);
      image[dirent + 10] = types[i] as number;
      nameAt += image.write(names[i] as string, block + nameAt, 'latin1');
    }
    first = end;
  }
}
