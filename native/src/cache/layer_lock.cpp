#include "cache/layer_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>

#include "sys/file_io.hpp"

namespace peel {
namespace {

// Losing the race against a removal this often in a row means something else is wrong.
constexpr int kMaxAttempts = 100;

bool stillAt(int fd, const std::string& path) {
  struct stat mine{}, there{};
  return ::fstat(fd, &mine) == 0 && ::stat(path.c_str(), &there) == 0 && mine.st_ino == there.st_ino &&
         mine.st_dev == there.st_dev;
}

int lockFd(int fd, int operation) {
  while (::flock(fd, operation) < 0) {
    if (errno == EWOULDBLOCK) return -EAGAIN;
    if (errno != EINTR) return -errno;
  }
  return 0;
}

}  // namespace

int LayerLock::takeShared(const std::string& dir) {
  const std::string path = dir + "/lock";
  for (int attempt = 0; attempt < kMaxAttempts; attempt++) {
    if (::mkdir(dir.c_str(), 0700) < 0 && errno != EEXIST) return -errno;
    Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd.valid()) {
      if (errno == ENOENT) continue;
      return -errno;
    }
    // Blocking is right: an exclusive holder only renames.
    if (int err = lockFd(fd.get(), LOCK_SH)) return err;
    if (!stillAt(fd.get(), path)) continue;
    fd_ = std::move(fd);
    return 0;
  }
  return -EBUSY;
}

int LayerLock::tryExclusive(const std::string& dir) {
  const std::string path = dir + "/lock";
  for (int attempt = 0; attempt < kMaxAttempts; attempt++) {
    Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd.valid()) return -errno;
    if (int err = lockFd(fd.get(), LOCK_EX | LOCK_NB)) return err;
    if (!stillAt(fd.get(), path)) continue;
    fd_ = std::move(fd);
    return 0;
  }
  return -EBUSY;
}

int LayerLock::beginLayout() { return lockByte(fd_.get(), 0, F_WRLCK); }
void LayerLock::endLayout() { lockByte(fd_.get(), 0, F_UNLCK); }

int tryRemoveLayer(const std::string& dir, const std::string& livePath) {
  static std::atomic<unsigned> serial{0};
  LayerLock lock;
  int err = lock.tryExclusive(dir);
  if (err == -ENOENT) return 0;
  if (err) return err;
  const std::string gone = dir + ".gone-" + std::to_string(::getpid()) + "-" + std::to_string(serial++);
  // The bits go first: a crash in between must not leave bits without bytes.
  if (::unlink(livePath.c_str()) < 0 && errno != ENOENT) return -errno;
  if (::rename(dir.c_str(), gone.c_str()) < 0) return -errno;
  lock.drop();
  std::error_code ec;
  std::filesystem::remove_all(gone, ec);
  return ec ? -ec.value() : 0;
}

}  // namespace peel
