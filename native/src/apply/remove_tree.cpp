#include "apply/remove_tree.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <string_view>

#include "apply/open_beneath.hpp"

namespace peel {
namespace {

// Each level holds a file descriptor. What is deeper is moved up first.
constexpr int kDeepest = 32;

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

class Remover {
 public:
  explicit Remover(const std::atomic<bool>& stop) : stop_(stop) {}

  int remove(int dir, const char* name, int depth) {
    if (::unlinkat(dir, name, 0) == 0) return 0;
    return errno == EISDIR ? removeDirectory(dir, name, depth) : -errno;
  }

 private:
  int removeDirectory(int dir, const char* name, int depth) {
    if (::unlinkat(dir, name, AT_REMOVEDIR) == 0) return 0;
    if (errno != ENOTEMPTY && errno != EEXIST) return -errno;
    if (depth == kDeepest) return moveUp(dir, name);
    const int fd = openDirectoryBeneath(dir, name, O_RDONLY);
    if (fd < 0) return fd;
    const std::unique_ptr<DIR, CloseDir> inside(::fdopendir(fd));
    if (!inside) {
      const int err = errno;
      ::close(fd);
      return -err;
    }
    if (depth == 0) top_ = fd;
    // More than one pass where removing makes a filesystem skip names, and at the top for what was moved there.
    for (;;) {
      bool found = false;
      if (const int err = empty(inside.get(), depth, found)) return err;
      if (::unlinkat(dir, name, AT_REMOVEDIR) == 0) return 0;
      if (!found || (errno != ENOTEMPTY && errno != EEXIST)) return -errno;
      ::rewinddir(inside.get());
    }
  }

  int empty(DIR* dir, int depth, bool& found) {
    const int fd = ::dirfd(dir);
    for (;;) {
      if (stop_.load(std::memory_order_relaxed)) return -ECANCELED;
      errno = 0;
      const dirent* entry = ::readdir(dir);
      if (!entry) return -errno;
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      found = true;
      const bool isDirectory = entry->d_type == DT_DIR;
      const int err = isDirectory ? removeDirectory(fd, entry->d_name, depth + 1) : remove(fd, entry->d_name, depth + 1);
      // Reading may show a name twice when others came and went.
      if (err != 0 && err != -ENOENT) return err;
    }
  }

  int moveUp(int dir, const char* name) {
    for (;;) {
      const std::string fresh = ".peel-removed-" + std::to_string(moved_++);
      if (::renameat(dir, name, top_, fresh.c_str()) == 0) return 0;
      // Something of that name is there; it is to go as well, but only where it can be replaced.
      if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) return -errno;
    }
  }

  const std::atomic<bool>& stop_;
  int top_ = -1;
  unsigned long moved_ = 0;
};

}  // namespace

int removeTree(int dir, const char* name, const std::atomic<bool>& stop) { return Remover(stop).remove(dir, name, 0); }

}  // namespace peel
