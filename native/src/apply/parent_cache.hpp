#pragma once
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

#include "sys/fd.hpp"

namespace peel {

// The directories of a tree in which something was made lately, open, so that a file costs no walk from the root.
class ParentCache {
 public:
  explicit ParentCache(int root) : root_(root) {}

  /**
   * The directory that holds `path` (clean), or -errno as openDirectoryBeneath(). Stays open until forget() or until some
   * more were asked for, at least one.
   */
  int parentOf(std::string_view path);

  /** `path` and what is beneath it is gone, or will be. */
  void forget(std::string_view path);

  void clear() { dropDownTo(0); }

 private:
  struct Entry {
    std::string path;
    Fd fd;
  };
  void dropDownTo(size_t count);

  const int root_;
  std::list<Entry> entries_;  // the last used one first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> byPath_;
};

/** The last part of a path; ends where the path ends. */
inline const char* nameOf(std::string_view path) { return path.data() + (path.rfind('/') + 1); }

}  // namespace peel
