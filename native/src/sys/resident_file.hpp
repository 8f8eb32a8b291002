#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace peel {

// A file whose pages this process keeps mapped. EROFS reads its metadata a page at a time and never ahead, so a tree that
// left the page cache comes back with one disk request for every 4 KiB. Mapped pages are the last that the kernel takes,
// and it may still take them: nothing is locked.
class ResidentFile {
 public:
  // 0 or -errno. A file over `limit` bytes is not mapped: -EFBIG.
  static int open(const std::string& path, size_t limit, std::shared_ptr<ResidentFile>& out);
  ~ResidentFile();
  ResidentFile(const ResidentFile&) = delete;
  ResidentFile& operator=(const ResidentFile&) = delete;

  // Reads all of it, on the calling thread. 0 or -errno.
  int populate() const;

 private:
  ResidentFile(void* base, size_t size) : base_(base), size_(size) {}

  void* base_;
  size_t size_;
};

}  // namespace peel
