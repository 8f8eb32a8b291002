#include "apply/attribute_setter.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>

namespace peel {
namespace {

#ifndef SYS_fchmodat2
constexpr long SYS_fchmodat2 = 452;
#endif

// glibc's own way around a missing fchmodat2 goes through /proc, which a sandboxed process may not have.
int chmodNoFollow(int dir, const char* name, mode_t mode) {
  if (::syscall(SYS_fchmodat2, dir, name, mode, AT_SYMLINK_NOFOLLOW) == 0) return 0;
  if (errno != ENOSYS && errno != EPERM) return -errno;
  return ::fchmodat(dir, name, mode, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

bool needsPrivileges(std::string_view name) { return name.starts_with("trusted.") || name.starts_with("security."); }

// Without these an overlay's tree means something else.
bool isOverlays(std::string_view name) {
  return name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.");
}

struct Times {
  explicit Times(const OpAttributes& attributes) {
    both[0].tv_sec = both[1].tv_sec = static_cast<time_t>(attributes.mtime);
    both[0].tv_nsec = both[1].tv_nsec = static_cast<long>(attributes.mtimeNs);
  }
  timespec both[2];
};

int failed(std::string& step, const char* what) {
  step = what;
  return -errno;
}

}  // namespace

template <class Set>
int AttributeSetter::xattrs(const OpAttributes& attributes, std::string& step, Set set) {
  for (const OpXattr& xattr : attributes.xattrs) {
    const bool mine = ownership_ == Ownership::Mine;
    const bool refused = mine && needsPrivileges(xattr.name);
    const int err = refused ? EPERM : set(xattr) < 0 ? errno : 0;
    if (err == 0) continue;
    if (refused || (!isOverlays(xattr.name) && (err == EOPNOTSUPP || (err == EPERM && mine)))) {
      skippedXattrs_.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    step = "set attribute '" + std::string(xattr.name) + "' of";
    return -err;
  }
  return 0;
}

int AttributeSetter::ofOpen(int fd, const OpAttributes& attributes, std::string& step) {
  if (ownership_ == Ownership::Entries && ::fchown(fd, attributes.uid, attributes.gid) < 0) return failed(step, "chown");
  if (const int err = xattrs(attributes, step, [fd](const OpXattr& xattr) {
        return ::fsetxattr(fd, xattr.name.data(), xattr.value.data(), xattr.value.size(), 0);
      })) {
    return err;
  }
  if (::fchmod(fd, attributes.mode) < 0) return failed(step, "chmod");
  return ::futimens(fd, Times(attributes).both) < 0 ? failed(step, "set times of") : 0;
}

int AttributeSetter::ofName(int dir, const char* name, bool symlink, const OpAttributes& attributes, std::string& step) {
  if (ownership_ == Ownership::Entries &&
      ::fchownat(dir, name, attributes.uid, attributes.gid, AT_SYMLINK_NOFOLLOW) < 0) {
    return failed(step, "chown");
  }
  if (!symlink) {
    if (const int err = chmodNoFollow(dir, name, attributes.mode)) {
      step = "chmod";
      return err;
    }
  }
  if (!attributes.xattrs.empty()) {
    // There is no call with a directory before Linux 6.13; the one on a path follows nothing at its end.
    const std::string path = "/proc/self/fd/" + std::to_string(dir) + "/" + name;
    if (const int err = xattrs(attributes, step, [&path](const OpXattr& xattr) {
          return ::lsetxattr(path.c_str(), xattr.name.data(), xattr.value.data(), xattr.value.size(), 0);
        })) {
      return err;
    }
  }
  return ::utimensat(dir, name, Times(attributes).both, AT_SYMLINK_NOFOLLOW) < 0 ? failed(step, "set times of") : 0;
}

}  // namespace peel
