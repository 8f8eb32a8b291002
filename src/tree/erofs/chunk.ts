// Chunk-based files: the file is cut into chunks of 2^n blocks, each of which lies somewhere on one device or is a hole.
import { TreeError } from '../errors.ts';
import type { TreeExtent } from '../tree.ts';
import { EROFS_CHUNK_BITS_MAX, EROFS_CHUNK_INDEX_SIZE, EROFS_NULL_ADDR } from './abi.ts';

export interface ChunkPlan {
  /** log2 of blocks per chunk. */
  readonly bits: number;
  readonly count: number;
}

/**
 * The largest chunks that can express `extents` in a file of `size` bytes; one chunk for an ordinary file.
 * `name` says which file, for errors.
 * Errors: ERR_TREE_UNALIGNED when a run of data does not begin on a block in file and stream, or ends inside a block before
 * the file's end; ERR_TREE_VALUE when it lies beyond the 2^32 blocks of a device.
 */
export function planChunks(
  size: number,
  extents: readonly TreeExtent[],
  blockSize: number,
  name: () => string,
): ChunkPlan {
  const blocks = Math.ceil(size / blockSize);
  let bits = blocks > 2 ** EROFS_CHUNK_BITS_MAX ? EROFS_CHUNK_BITS_MAX : bitsFor(blocks);
  for (let i = 0; i < extents.length; i++) {
    const { fileOffset, streamOffset, size: length } = extents[i] as TreeExtent;
    const end = fileOffset + length;
    if (fileOffset % blockSize !== 0 || streamOffset % blockSize !== 0 || (end < size && end % blockSize !== 0)) {
      throw new TreeError(
        'ERR_TREE_UNALIGNED',
        `${name()}: its data at file byte ${fileOffset} are not aligned to ${blockSize} bytes`,
      );
    }
    if (Math.ceil((streamOffset + length) / blockSize) >= EROFS_NULL_ADDR) {
      throw new TreeError(
        'ERR_TREE_VALUE',
        `${name()}: its data lie beyond byte ${EROFS_NULL_ADDR * blockSize} of the layer`,
      );
    }
    const previous = extents[i - 1];
    if (previous === undefined || !follows(previous, extents[i] as TreeExtent)) {
      bits = Math.min(bits, trailingZeros(fileOffset / blockSize));
    }
    const next = extents[i + 1];
    if (end < size && (next === undefined || !follows(extents[i] as TreeExtent, next))) {
      bits = Math.min(bits, trailingZeros(end / blockSize));
    }
  }
  return { bits, count: Math.ceil(blocks / 2 ** bits) };
}

/** Writes the index: for each chunk `{ u16 0, u16 device, u32 block }`. Extents are ascending and fit the plan. */
export function writeChunkIndex(
  image: Buffer,
  at: number,
  plan: ChunkPlan,
  extents: readonly TreeExtent[],
  blockSize: number,
): void {
  const chunkSize = blockSize * 2 ** plan.bits;
  let i = 0;
  for (let chunk = 0; chunk < plan.count; chunk++) {
    const start = chunk * chunkSize;
    while (i < extents.length && endOf(extents[i] as TreeExtent) <= start) i++;
    const extent = extents[i];
    const to = at + chunk * EROFS_CHUNK_INDEX_SIZE;
    if (extent === undefined || extent.fileOffset > start) {
      image.writeUInt32LE(EROFS_NULL_ADDR, to + 4);
    } else {
      image.writeUInt16LE(extent.layer + 1, to + 2);
      image.writeUInt32LE((extent.streamOffset + start - extent.fileOffset) / blockSize, to + 4);
    }
  }
}

function follows(a: TreeExtent, b: TreeExtent): boolean {
  return a.layer === b.layer && endOf(a) === b.fileOffset && a.streamOffset + a.size === b.streamOffset;
}

function endOf(extent: TreeExtent): number {
  return extent.fileOffset + extent.size;
}

/** The least n with 2^n >= `count`, which is at most 2^31. */
function bitsFor(count: number): number {
  return count <= 1 ? 0 : 32 - Math.clz32(count - 1);
}

function trailingZeros(value: number): number {
  if (value === 0) return EROFS_CHUNK_BITS_MAX;
  let zeros = 0;
  for (let rest = value; rest % 2 === 0; rest /= 2) zeros++;
  return zeros;
}
