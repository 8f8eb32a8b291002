#include "cache/data_pins.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>

namespace peel {
namespace {

int lock(int fd, int operation) {
  while (::flock(fd, operation) < 0) {
    if (errno == EWOULDBLOCK) return -EAGAIN;
    if (errno != EINTR) return -errno;
  }
  return 0;
}

}  // namespace

int DataPins::hold(int dataFd) {
  std::lock_guard guard(mutex_);
  if (holders_ == 0) {
    if (int err = lock(dataFd, LOCK_SH)) return err;
  }
  holders_++;
  return 0;
}

void DataPins::release(int dataFd) {
  std::lock_guard guard(mutex_);
  if (--holders_ == 0) lock(dataFd, LOCK_UN);
}

int openLocked(const std::string& path, int dataFd, DataLock kind, Fd& out) {
  const bool exclusive = kind == DataLock::Exclusive;
  Fd fd(::open(path.c_str(), (exclusive ? O_RDWR : O_RDONLY) | O_CLOEXEC));
  if (!fd.valid()) return -errno;
  struct stat mine{}, there{};
  if (::fstat(dataFd, &mine) < 0 || ::fstat(fd.get(), &there) < 0) return -errno;
  if (mine.st_ino != there.st_ino || mine.st_dev != there.st_dev) return -ESTALE;
  if (int err = lock(fd.get(), exclusive ? LOCK_EX | LOCK_NB : LOCK_SH)) return err;
  out = std::move(fd);
  return 0;
}

}  // namespace peel
