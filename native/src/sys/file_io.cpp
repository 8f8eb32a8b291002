#include "sys/file_io.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "sys/fd.hpp"

namespace peel {

int writeFully(int fd, const void* bytes, size_t length, uint64_t offset) {
  auto* at = static_cast<const uint8_t*>(bytes);
  while (length > 0) {
    ssize_t n = ::pwrite(fd, at, length, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    if (n == 0) return -ENOSPC;
    at += n;
    offset += static_cast<uint64_t>(n);
    length -= static_cast<size_t>(n);
  }
  return 0;
}

int readFully(int fd, void* bytes, size_t length, uint64_t offset) {
  auto* at = static_cast<uint8_t*>(bytes);
  while (length > 0) {
    ssize_t n = ::pread(fd, at, length, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    if (n == 0) return -ENODATA;
    at += n;
    offset += static_cast<uint64_t>(n);
    length -= static_cast<size_t>(n);
  }
  return 0;
}

int fsyncDirectoryOf(const std::string& path) {
  auto slash = path.rfind('/');
  std::string directory = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return -errno;
  return ::fsync(fd.get()) < 0 ? -errno : 0;
}

int lockByte(int fd, uint64_t byte, short type) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(byte);
  lock.l_len = 1;
  while (::fcntl(fd, F_OFD_SETLKW, &lock) < 0) {
    if (errno != EINTR) return -errno;
  }
  return 0;
}

}  // namespace peel
