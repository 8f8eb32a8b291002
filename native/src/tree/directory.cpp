// Directory blocks: dirents sorted by name, then the names; every block is sorted after the one before it.
#include <errno.h>
#include <sys/stat.h>

#include <algorithm>

#include "tree/image.hpp"

namespace peel::erofs {
namespace {

constexpr uint8_t kDirentTypes[] = {0 /* unknown */, 8 /* DT_REG */, 4 /* DT_DIR */, 2 /* DT_CHR */,
                                    6 /* DT_BLK */,  1 /* DT_FIFO */, 12 /* DT_SOCK */, 10 /* DT_LNK */};

}  // namespace

uint64_t Image::dirBlocks(const Inode& dir) const {
  return (dir.size >> super_.blkszbits) + ((dir.size & (blockSize() - 1)) != 0 ? 1 : 0);
}

int Image::dirBlock(const Inode& dir, uint64_t index, Block& out) const {
  const uint64_t offset = index << super_.blkszbits;
  const uint64_t size = std::min(blockSize(), dir.size - offset);
  Extent extent;
  if (dir.layout == kChunkBased) return -EUCLEAN;
  if (int err = flatExtent(dir, offset, size, extent)) return err;
  if (extent.length != size) return -EUCLEAN;
  Dirent first;
  if (!load(extent.at, first) || size < sizeof first) return -EUCLEAN;
  if (first.nameoff < sizeof first || first.nameoff % sizeof first != 0 || first.nameoff > size) return -EUCLEAN;
  out = Block{bytes(extent.at, size), static_cast<uint32_t>(size),
              static_cast<uint32_t>(first.nameoff / sizeof first)};
  return 0;
}

int Image::dirEntry(const Block& block, uint32_t index, Dirent& out, std::string_view& name) const {
  std::memcpy(&out, block.bytes + index * sizeof(Dirent), sizeof(Dirent));
  uint32_t end = block.size;
  if (index + 1 < block.count) {
    Dirent next;
    std::memcpy(&next, block.bytes + (index + 1) * sizeof(Dirent), sizeof(Dirent));
    end = next.nameoff;
  }
  if (out.nameoff < block.count * sizeof(Dirent) || end > block.size || out.nameoff >= end) return -EUCLEAN;
  const char* start = reinterpret_cast<const char*>(block.bytes) + out.nameoff;
  // The last name of a block ends at a NUL or at the block's end.
  const size_t length = ::strnlen(start, end - out.nameoff);
  if (length == 0 || length > 255) return -EUCLEAN;
  name = std::string_view(start, length);
  if (name.find('/') != std::string_view::npos) return -EUCLEAN;
  return 0;
}

int Image::lookup(const Inode& dir, std::string_view name, uint64_t& nid, uint8_t& type) const {
  if (!dir.isDir()) return -ENOTDIR;
  Block block;
  Dirent dirent;
  std::string_view candidate;
  // The last block whose first name is not above `name`; string_view compares as unsigned bytes, as the format sorts.
  uint64_t low = 0;
  uint64_t high = dirBlocks(dir);
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (int err = dirBlock(dir, middle, block)) return err;
    if (int err = dirEntry(block, 0, dirent, candidate)) return err;
    if (candidate <= name) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0) return -ENOENT;
  if (int err = dirBlock(dir, low - 1, block)) return err;
  uint32_t from = 0;
  uint32_t to = block.count;
  while (from < to) {
    const uint32_t middle = from + (to - from) / 2;
    if (int err = dirEntry(block, middle, dirent, candidate)) return err;
    const int order = candidate.compare(name);
    if (order == 0) {
      nid = dirent.nid;
      type = dirent.fileType < sizeof kDirentTypes ? kDirentTypes[dirent.fileType] : 0;
      return 0;
    }
    if (order < 0) {
      from = middle + 1;
    } else {
      to = middle;
    }
  }
  return -ENOENT;
}

int Image::list(const Inode& dir, uint64_t from, const std::function<bool(const DirEntry&)>& each) const {
  if (!dir.isDir()) return -ENOTDIR;
  // Positions are byte offsets of dirents in the directory, as the kernel's own EROFS numbers them.
  const uint64_t blocks = dirBlocks(dir);
  uint64_t index = from >> super_.blkszbits;
  uint64_t within = from & (blockSize() - 1);
  if (within % sizeof(Dirent) != 0) return -EINVAL;
  for (; index < blocks; ++index, within = 0) {
    Block block;
    if (int err = dirBlock(dir, index, block)) return err;
    for (uint32_t i = static_cast<uint32_t>(within / sizeof(Dirent)); i < block.count; ++i) {
      Dirent dirent;
      DirEntry entry;
      if (int err = dirEntry(block, i, dirent, entry.name)) return err;
      entry.nid = dirent.nid;
      entry.type = dirent.fileType < sizeof kDirentTypes ? kDirentTypes[dirent.fileType] : 0;
      entry.next = i + 1 < block.count ? (index << super_.blkszbits) + (i + 1) * sizeof(Dirent)
                                       : (index + 1) << super_.blkszbits;
      if (!each(entry)) return 0;
    }
  }
  return 0;
}

}  // namespace peel::erofs
