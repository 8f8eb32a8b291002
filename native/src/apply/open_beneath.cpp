#include "apply/open_beneath.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "sys/fd.hpp"

namespace peel {

std::atomic<bool> useOpenat2{true};

namespace {

constexpr int kDirectory = O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
// Of one call; PATH_MAX counts the NUL.
constexpr size_t kLongestPiece = 4095;

// Whether `child`, just opened in `parent`, is the root of something mounted there.
bool crossesMount(int parent, int child) {
  struct statx inner;
  if (::statx(child, "", AT_EMPTY_PATH, STATX_TYPE, &inner) == 0 && inner.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) {
    return inner.stx_attributes & STATX_ATTR_MOUNT_ROOT;
  }
  struct stat a, b;
  return ::fstat(parent, &a) < 0 || ::fstat(child, &b) < 0 || a.st_dev != b.st_dev;
}

int openPart(int parent, const std::string& name, int flags) {
  Fd fd(::openat(parent, name.c_str(), flags | kDirectory));
  if (!fd.valid()) return -errno;
  if (crossesMount(parent, fd.get())) return -EXDEV;
  return fd.release();
}

int openPartByPart(int root, const std::string& path, int flags) {
  Fd fd;
  for (size_t at = 0;;) {
    const size_t slash = path.find('/', at);
    const bool last = slash == std::string::npos;
    const std::string name = path.substr(at, last ? slash : slash - at);
    const int next = openPart(fd.valid() ? fd.get() : root, name, last ? flags : O_PATH);
    if (next < 0 || last) return next;
    fd.reset(next);
    at = slash + 1;
  }
}

int openPiece(int root, const std::string& path, int flags) {
  if (useOpenat2.load(std::memory_order_relaxed)) {
    open_how how{};
    how.flags = static_cast<uint64_t>(flags | kDirectory);
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
    const long fd = ::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how);
    if (fd >= 0) return static_cast<int>(fd);
    // Sandboxes refuse calls that they do not know with EPERM, which opening a directory never gives.
    if (errno != ENOSYS && errno != EPERM) return -errno;
    useOpenat2 = false;
  }
  return openPartByPart(root, path, flags);
}

}  // namespace

int openDirectoryBeneath(int root, std::string_view path, int flags) {
  if (path.empty()) {
    const int fd = ::openat(root, ".", flags | kDirectory);
    return fd < 0 ? -errno : fd;
  }
  Fd fd;
  while (path.size() > kLongestPiece) {
    const size_t slash = path.rfind('/', kLongestPiece);
    if (slash == std::string_view::npos) return -ENAMETOOLONG;
    const int next = openPiece(fd.valid() ? fd.get() : root, std::string(path.substr(0, slash)), O_PATH);
    if (next < 0) return next;
    fd.reset(next);
    path.remove_prefix(slash + 1);
  }
  return openPiece(fd.valid() ? fd.get() : root, std::string(path), flags);
}

}  // namespace peel
