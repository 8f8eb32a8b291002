#include "fuse/backing.hpp"

#include <errno.h>
#include <linux/ioctl.h>
#include <sys/ioctl.h>

#include "fuse/abi.hpp"

namespace peel::fuse {
namespace {

constexpr unsigned long kBackingOpen = _IOW(229, 1, BackingMap);
constexpr unsigned long kBackingClose = _IOW(229, 2, uint32_t);

}  // namespace

int openBacking(int deviceFd, int fileFd) {
  const BackingMap map{fileFd, 0, 0};
  const int id = ::ioctl(deviceFd, kBackingOpen, &map);
  return id < 0 ? -errno : id;
}

int closeBacking(int deviceFd, int32_t id) { return ::ioctl(deviceFd, kBackingClose, &id) < 0 ? -errno : 0; }

}  // namespace peel::fuse
