#include "tree/stream_extents.hpp"

#include <errno.h>

#include <algorithm>
#include <unordered_set>

namespace peel::erofs {
namespace {

struct Range {
  uint64_t start;
  uint64_t end;
};

using Ranges = std::vector<std::vector<Range>>;

constexpr uint64_t kMaxExact = (uint64_t{1} << 53) - 1;

// Each directory and file once, however many names it has: an image from elsewhere may hold a directory in itself.
class Walk {
 public:
  explicit Walk(const Image& image) : image_(image), chunksLeft_(image.size() / sizeof(uint32_t)) {}

  int run(Ranges& out) {
    out.resize(image_.devices());
    visit(image_.rootNid());
    while (!directories_.empty()) {
      const Inode directory = directories_.back();
      directories_.pop_back();
      if (int err = entries(directory, out)) return err;
    }
    return 0;
  }

 private:
  void visit(uint64_t nid) {
    Inode inode;
    seen_.insert(nid);
    if (image_.inode(nid, inode) == 0) directories_.push_back(inode);
  }

  int entries(const Inode& directory, Ranges& out) {
    int failed = 0;
    const int err = image_.list(directory, 0, [&](const DirEntry& entry) {
      if (!seen_.insert(entry.nid).second) return true;
      Inode inode;
      failed = image_.inode(entry.nid, inode);
      if (failed != 0) return false;
      if (inode.isDir()) directories_.push_back(inode);
      if (inode.isRegular()) failed = file(inode, out);
      return failed == 0;
    });
    return failed != 0 ? failed : err;
  }

  int file(const Inode& inode, Ranges& out) {
    if (inode.layout != kChunkBased) return 0;
    const uint64_t chunkSize = image_.blockSize() << (inode.u & kChunkBlkBitsMask);
    const uint64_t chunks = inode.size / chunkSize + (inode.size % chunkSize != 0 ? 1 : 0);
    // Files that share their chunk indexes could make a small image as long to walk as one likes.
    if (chunks > chunksLeft_) return -EUCLEAN;
    chunksLeft_ -= chunks;
    int32_t device = 0;
    Range run{0, 0};
    for (uint64_t offset = 0; offset < inode.size;) {
      Extent extent;
      if (int err = image_.extent(inode, offset, inode.size - offset, extent)) return err;
      offset += extent.length;
      if (extent.device <= 0) continue;
      if (extent.at > kMaxExact || extent.length > kMaxExact - extent.at) return -EUCLEAN;
      const Range next{extent.at, extent.at + extent.length};
      // The data of a sparse file follow each other in the stream, whatever holes are between them.
      if (device == extent.device && next.start == run.end) {
        run.end = next.end;
        continue;
      }
      add(device, run, out);
      device = extent.device;
      run = next;
    }
    add(device, run, out);
    return 0;
  }

  static void add(int32_t device, Range run, Ranges& out) {
    if (device > 0) out[static_cast<size_t>(device) - 1].push_back(run);
  }

  const Image& image_;
  uint64_t chunksLeft_;
  std::unordered_set<uint64_t> seen_;
  std::vector<Inode> directories_;
};

std::vector<double> apart(std::vector<Range>& ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return a.start != b.start ? a.start < b.start : a.end < b.end;
  });
  std::vector<double> out;
  out.reserve(2 * ranges.size());
  uint64_t end = 0;
  for (const Range& range : ranges) {
    const uint64_t start = std::max(range.start, end);
    if (start >= range.end) continue;
    out.push_back(static_cast<double>(start));
    out.push_back(static_cast<double>(range.end));
    end = range.end;
  }
  return out;
}

}  // namespace

int streamExtents(const Image& image, std::vector<std::vector<double>>& out) {
  Ranges ranges;
  if (int err = Walk(image).run(ranges)) return err;
  out.clear();
  for (auto& device : ranges) out.push_back(apart(device));
  return 0;
}

}  // namespace peel::erofs
