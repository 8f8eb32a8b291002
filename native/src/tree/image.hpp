// A tree.erofs mapped into memory and read in place. The image is data from outside: every access is checked against the
// mapping in 64-bit arithmetic, and what does not fit is -EUCLEAN ("structure needs cleaning"), never a crash.
// Immutable after open(); every method may be called from any thread.
#pragma once
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "tree/erofs_format.hpp"

namespace peel::erofs {

struct Inode {
  uint64_t nid;
  uint32_t mode;
  uint8_t layout;
  uint64_t size;
  uint32_t u;  // raw block address, rdev or chunk format
  uint32_t nlink;
  uint32_t uid;
  uint32_t gid;
  int64_t mtime;
  uint32_t mtimeNs;
  uint64_t xattrAt;  // image offset of the inline xattrs
  uint64_t xattrSize;
  uint64_t dataAt() const { return xattrAt + xattrSize; }  // inline tail, or (aligned to 8) the chunk indexes
  bool isDir() const;
  bool isRegular() const;
  bool isSymlink() const;
  bool isDevice() const;
};

/** A run of a file's bytes: `device` 0 is the image itself (`at` an image offset), n the n-th device, -1 a hole. */
struct Extent {
  int32_t device;
  uint64_t at;
  uint64_t length;
};

struct DirEntry {
  std::string_view name;
  uint64_t nid;
  uint8_t type;   // DT_*
  uint64_t next;  // position after this entry
};

class Image {
 public:
  /** 0, -errno of opening the file, -EUCLEAN or -EOPNOTSUPP for an image that cannot be served. */
  static int open(const std::string& path, std::unique_ptr<Image>& out);
  /** Over bytes that the caller keeps alive. */
  static int attach(const uint8_t* bytes, uint64_t size, std::unique_ptr<Image>& out);
  ~Image();
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  uint64_t rootNid() const { return super_.rootNid; }
  uint32_t devices() const { return super_.extraDevices; }
  uint64_t blockSize() const { return uint64_t{1} << super_.blkszbits; }
  uint64_t inodes() const { return super_.inos; }
  uint64_t size() const { return size_; }

  int inode(uint64_t nid, Inode& out) const;

  /** -ENOENT when the directory has no such name. */
  int lookup(const Inode& dir, std::string_view name, uint64_t& nid, uint8_t& type) const;
  /** Entries from position `from` (0, or a `next` of before) until the end or until `each` returns false. */
  int list(const Inode& dir, uint64_t from, const std::function<bool(const DirEntry&)>& each) const;

  /** Bytes [at, at + length) of the image, or null when they are not all there. */
  const uint8_t* bytes(uint64_t at, uint64_t length) const {
    return at <= size_ && length <= size_ - at ? base_ + at : nullptr;
  }

  /** The longest run that starts at `offset` (< size), at most `limit` bytes; neighbouring chunks are joined. */
  int extent(const Inode& file, uint64_t offset, uint64_t limit, Extent& out) const;

  /** The target inside the mapping. */
  int readlink(const Inode& link, std::string_view& out) const;

  /** -ENODATA when there is none; `name` with its prefix ("user.x"). */
  int getxattr(const Inode& inode, std::string_view name, std::string_view& value) const;
  /** Calls `each` with (prefix, rest of the name, value); stops early when it returns false. */
  using XattrVisitor = std::function<bool(std::string_view prefix, std::string_view name, std::string_view value)>;
  int xattrs(const Inode& inode, const XattrVisitor& each) const;

 private:
  Image() = default;
  int start();
  template <class T>
  bool load(uint64_t at, T& out) const {
    const uint8_t* from = bytes(at, sizeof(T));
    if (from == nullptr) return false;
    std::memcpy(&out, from, sizeof(T));
    return true;
  }
  struct Block {
    const uint8_t* bytes;
    uint32_t size;
    uint32_t count;
  };
  uint64_t dirBlocks(const Inode& dir) const;
  int dirBlock(const Inode& dir, uint64_t index, Block& out) const;
  int dirEntry(const Block& block, uint32_t index, Dirent& out, std::string_view& name) const;
  int flatExtent(const Inode& file, uint64_t offset, uint64_t limit, Extent& out) const;
  int chunkAt(const Inode& file, uint64_t index, Extent& out) const;
  int xattrEntry(uint64_t at, uint64_t end, const XattrVisitor& each, uint64_t& next, bool& more) const;

  const uint8_t* base_ = nullptr;
  uint64_t size_ = 0;
  bool mapped_ = false;
  uint32_t deviceMask_ = 0;
  SuperBlock super_{};
};

}  // namespace peel::erofs
