import type { TreeExtent } from '../tree.ts';
import { EROFS_CHUNK_INDEX_SIZE, EROFS_CHUNK_INDEXES, EROFS_NULL_ADDR } from './abi.ts';
import { type ImageBytes, imageError } from './image-bytes.ts';
import { blockSize } from './read-superblock.ts';

export interface ChunkPlace {
  /** Bytes of the file, not 0. */
  readonly size: number;
  readonly format: number;
  /** Byte offset of the index in the image. */
  readonly at: number;
}

/**
 * The extents of a file, those that follow each other joined. `deviceSize` in bytes; the file's last block counts as a whole. `spend` is
 * told before each is made, and of all chunks before they are looked at, as files may share them; what it throws ends the work.
 * Errors: ERR_TREE_IMAGE.
 */
export function readChunks(
  image: ImageBytes,
  { size, format, at }: ChunkPlace,
  deviceSize: number,
  spend: (what: 'chunks' | 'extents', amount: number) => void,
): TreeExtent[] {
  const bits = format & 0x1f;
  if (format !== (EROFS_CHUNK_INDEXES | bits)) throw imageError(`has chunks of the unknown format ${format}`);
  const chunkSize = blockSize * 2 ** bits;
  const count = Math.ceil(size / chunkSize);
  const index = image.range(at, count * EROFS_CHUNK_INDEX_SIZE, 'the chunks of a file');
  spend('chunks', count);
  const extents: TreeExtent[] = [];
  let last: { layer: number; fileOffset: number; streamOffset: number; size: number } | undefined;
  for (let chunk = 0; chunk < count; chunk++) {
    const from = chunk * EROFS_CHUNK_INDEX_SIZE;
    const head = index.readUInt32LE(from);
    const block = index.readUInt32LE(from + 4);
    if (head === 0 && block === EROFS_NULL_ADDR) {
      last = undefined;
      continue;
    }
    if (head !== 0x1_0000) throw imageError('has a chunk of an unknown kind');
    const fileOffset = chunk * chunkSize;
    const length = Math.min(chunkSize, size - fileOffset);
    const streamOffset = block * blockSize;
    if (streamOffset + Math.ceil(length / blockSize) * blockSize > deviceSize)
      throw imageError(`has data behind the ${deviceSize} bytes of its device`);
    if (last !== undefined && last.streamOffset + last.size === streamOffset) {
      last.size += length;
    } else {
      spend('extents', 1);
      last = { layer: 0, fileOffset, streamOffset, size: length };
      extents.push(last);
    }
  }
  return extents;
}
