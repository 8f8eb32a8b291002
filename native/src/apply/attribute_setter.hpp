#pragma once
#include <atomic>
#include <cstdint>
#include <string>

#include "apply/op_reader.hpp"

namespace peel {

/** Entries: owners as the operations say. Mine: everything is the caller's own, and what needs privileges is left out. */
enum class Ownership : uint8_t { Entries, Mine };

// Sets what an operation says of an inode: owner, then extended attributes (chown drops capabilities; its owner may need
// the mode it was made with), then mode (chown drops setuid), then times. Follows no symbolic link.
class AttributeSetter {
 public:
  explicit AttributeSetter(Ownership ownership) : ownership_(ownership) {}

  // Both: 0 or -errno, and then `step` names what failed.
  int ofOpen(int fd, const OpAttributes& attributes, std::string& step);
  // Of a symbolic link or special file `name` in the directory `dir`; the mode of a symbolic link is left alone.
  int ofName(int dir, const char* name, bool symlink, const OpAttributes& attributes, std::string& step);

  // Extended attributes left out, because they need privileges or the filesystem has none such.
  uint64_t skippedXattrs() const { return skippedXattrs_.load(std::memory_order_relaxed); }

 private:
  template <class Set>
  int xattrs(const OpAttributes& attributes, std::string& step, Set set);

  const Ownership ownership_;
  std::atomic<uint64_t> skippedXattrs_{0};
};

}  // namespace peel
