#include "sys/files.hpp"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sys/fd.hpp"

namespace peel {
namespace {

int result(long value) { return value < 0 ? -errno : 0; }

/** Calls `get(buffer, size)` with growing buffers: the value may change between asking for its size and reading it. */
template <class Get>
int readGrowing(std::vector<uint8_t>& out, Get get) {
  for (;;) {
    const ssize_t size = get(nullptr, 0);
    if (size < 0) return -errno;
    out.resize(static_cast<size_t>(size));
    if (size == 0) return 0;
    const ssize_t got = get(out.data(), out.size());
    if (got >= 0) {
      out.resize(static_cast<size_t>(got));
      return 0;
    }
    if (errno != ERANGE) return -errno;
  }
}

}  // namespace

int tryLockFile(int fd, bool exclusive) { return result(::flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB)); }

int unlockFile(int fd) { return result(::flock(fd, LOCK_UN)); }

int makeNode(const std::string& path, uint32_t mode, uint32_t major, uint32_t minor) {
  return result(::mknod(path.c_str(), mode, makedev(major, minor)));
}

int getXattr(const std::string& path, const std::string& name, std::vector<uint8_t>& value) {
  return readGrowing(value,
                     [&](void* to, size_t size) { return ::lgetxattr(path.c_str(), name.c_str(), to, size); });
}

int setXattr(const std::string& path, const std::string& name, const uint8_t* value, size_t size) {
  return result(::lsetxattr(path.c_str(), name.c_str(), value, size, 0));
}

int listXattrs(const std::string& path, std::vector<std::string>& names) {
  std::vector<uint8_t> list;
  if (const int err = readGrowing(
          list, [&](void* to, size_t size) { return ::llistxattr(path.c_str(), static_cast<char*>(to), size); })) {
    return err;
  }
  for (size_t at = 0; at < list.size();) {
    const char* name = reinterpret_cast<const char*>(list.data()) + at;
    names.emplace_back(name, ::strnlen(name, list.size() - at));
    at += names.back().size() + 1;
  }
  return 0;
}

int setTimes(const std::string& path, int64_t mtime, uint32_t mtimeNs) {
  const timespec times[2] = {{mtime, static_cast<long>(mtimeNs)}, {mtime, static_cast<long>(mtimeNs)}};
  return result(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW));
}

int syncFs(const std::string& path) {
  // A fifo or device is not opened for what it does; syncfs(2) does not take O_PATH.
  const Fd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
  return fd.valid() ? result(::syncfs(fd.get())) : -errno;
}

int statFs(const std::string& path, FsStat& out) {
  struct statfs st;
  if (::statfs(path.c_str(), &st) < 0) return -errno;
  const auto block = static_cast<uint64_t>(st.f_frsize ? st.f_frsize : st.f_bsize);
  out = FsStat{static_cast<uint64_t>(st.f_type), st.f_bavail * block, st.f_blocks * block};
  return 0;
}

int canDirectIo(const std::string& path, bool& out) {
  out = false;
  const Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  if (!fd.valid()) return errno == EINVAL ? 0 : -errno;
  constexpr size_t kSector = 512;
  // Aligned to the sector only: EROFS asks with buffers that are not aligned any better.
  alignas(4096) uint8_t buffer[4096];
  const ssize_t size = ::pread(fd.get(), buffer + kSector, kSector, kSector);
  if (size < 0) return errno == EINVAL || errno == EIO ? 0 : -errno;
  out = true;
  return 0;
}

int makeUndumpable() { return result(::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)); }

void trimHeap() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

int executeProgram(const std::string& path, const std::vector<std::string>& words, const std::vector<int>& fds) {
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  // Node keeps from its children what it was started with.
  for (const int fd : fds) ::fcntl(fd, F_SETFD, 0);
  ::execv(path.c_str(), pointers.data());
  return -errno;
}

int sendNotify(const std::string& address, const std::string& text) {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  if (address.empty() || address.size() >= sizeof to.sun_path) return -EINVAL;
  ::memcpy(to.sun_path, address.data(), address.size());
  if (to.sun_path[0] == '@') to.sun_path[0] = 0;
  const Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return -errno;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
  return result(::sendto(fd.get(), text.data(), text.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&to), size));
}

}  // namespace peel
