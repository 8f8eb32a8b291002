// The body of a READDIR or READDIRPLUS answer while it is filled.
#pragma once
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "fuse/abi.hpp"

namespace peel::fuse {

class DirBuffer {
 public:
  DirBuffer(size_t limit, bool plus) : limit_(limit), plus_(plus) { bytes_.reserve(limit); }

  bool plus() const { return plus_; }
  const uint8_t* data() const { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }

  /**
   * Appends one name; `next` is the position to go on from after it. `entry` is used for READDIRPLUS only; its nodeid 0
   * means that the kernel learns the name but no inode. False: it does not fit, the answer is full.
   */
  bool add(std::string_view name, uint64_t ino, uint64_t next, uint32_t type, const EntryOut& entry) {
    const size_t fixed = (plus_ ? sizeof(EntryOut) : 0) + sizeof(Dirent);
    const size_t size = (fixed + name.size() + 7) & ~size_t{7};
    const size_t at = bytes_.size();
    if (at + size > limit_) return false;
    bytes_.resize(at + size);
    uint8_t* to = bytes_.data() + at;
    if (plus_) {
      std::memcpy(to, &entry, sizeof entry);
      to += sizeof entry;
    }
    const Dirent dirent{ino, next, static_cast<uint32_t>(name.size()), type};
    std::memcpy(to, &dirent, sizeof dirent);
    std::memcpy(to + sizeof dirent, name.data(), name.size());
    return true;
  }

 private:
  size_t limit_;
  bool plus_;
  std::vector<uint8_t> bytes_;
};

}  // namespace peel::fuse
