// Where a file's bytes are: flat data inside the image, or chunks on the devices.
#include <errno.h>

#include <algorithm>

#include "tree/image.hpp"

namespace peel::erofs {

int Image::extent(const Inode& file, uint64_t offset, uint64_t limit, Extent& out) const {
  if (offset >= file.size || limit == 0) return -EINVAL;
  limit = std::min(limit, file.size - offset);
  if (file.layout != kChunkBased) return flatExtent(file, offset, limit, out);

  const uint32_t format = file.u & 0xffff;
  if (format & ~uint32_t{kChunkBlkBitsMask | kChunkIndexes}) return -EUCLEAN;
  const uint32_t chunkBits = super_.blkszbits + (format & kChunkBlkBitsMask);
  const uint64_t chunkMask = (uint64_t{1} << chunkBits) - 1;
  uint64_t index = offset >> chunkBits;
  if (int err = chunkAt(file, index, out)) return err;
  const uint64_t within = offset & chunkMask;
  if (out.device >= 0) out.at += within;
  out.length = std::min(limit, chunkMask + 1 - within);
  while (out.length < limit) {
    Extent next;
    if (int err = chunkAt(file, ++index, next)) return err;
    if (next.device != out.device || (out.device >= 0 && next.at != out.at + out.length)) break;
    out.length += std::min(limit - out.length, chunkMask + 1);
  }
  return 0;
}

/** `at` of the chunk's first byte; `length` is left alone. */
int Image::chunkAt(const Inode& file, uint64_t index, Extent& out) const {
  if (file.u & kChunkIndexes) {
    ChunkIndex chunk;
    const uint64_t table = (file.dataAt() + 7) & ~uint64_t{7};
    // index < 2^63 / 512, so the product cannot overflow.
    if (!load(table + index * sizeof chunk, chunk)) return -EUCLEAN;
    if (chunk.startblk == kNullBlock) {
      out.device = -1;
      return 0;
    }
    const uint32_t device = chunk.deviceId & deviceMask_;
    if (device > super_.extraDevices || device != chunk.deviceId) return -EUCLEAN;
    out.device = static_cast<int32_t>(device);
    out.at = uint64_t{chunk.startblk} << super_.blkszbits;
    return 0;
  }
  uint32_t block;
  const uint64_t table = (file.dataAt() + 3) & ~uint64_t{3};
  if (!load(table + index * sizeof block, block)) return -EUCLEAN;
  out.device = block == kNullBlock ? -1 : 0;
  out.at = uint64_t{block} << super_.blkszbits;
  return 0;
}

int Image::flatExtent(const Inode& file, uint64_t offset, uint64_t limit, Extent& out) const {
  uint64_t plainSize = file.size;
  if (file.layout == kFlatInline) {
    const uint64_t lastBlock = (file.size - 1) >> super_.blkszbits;
    plainSize = lastBlock << super_.blkszbits;
  }
  out.device = 0;
  if (offset < plainSize) {
    out.at = (uint64_t{file.u} << super_.blkszbits) + offset;
    out.length = std::min(limit, plainSize - offset);
  } else {
    out.at = file.dataAt() + (offset - plainSize);
    out.length = limit;
  }
  return bytes(out.at, out.length) != nullptr ? 0 : -EUCLEAN;
}

}  // namespace peel::erofs
