#include "fuse/reply.hpp"

#include <errno.h>
#include <sys/uio.h>

namespace peel::fuse {
namespace {

int send(int fd, uint64_t unique, int32_t error, const void* data, size_t size) {
  OutHeader header{static_cast<uint32_t>(sizeof(OutHeader) + size), error, unique};
  iovec parts[2] = {{&header, sizeof header}, {const_cast<void*>(data), size}};
  // The device takes one message per write, whole or not at all; EINTR means that nothing was taken.
  while (::writev(fd, parts, size > 0 ? 2 : 1) < 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

template <class T>
int sendStruct(int fd, uint64_t unique, const T& body) {
  return send(fd, unique, 0, &body, sizeof body);
}

}  // namespace

int replyError(int fd, uint64_t unique, int err) { return send(fd, unique, -err, nullptr, 0); }
int replyEntry(int fd, uint64_t unique, const EntryOut& entry) { return sendStruct(fd, unique, entry); }
int replyAttr(int fd, uint64_t unique, const AttrOut& attr) { return sendStruct(fd, unique, attr); }
int replyInit(int fd, uint64_t unique, const InitOut& init) { return sendStruct(fd, unique, init); }
int replyOpen(int fd, uint64_t unique, const OpenOut& open) { return sendStruct(fd, unique, open); }
int replyStatfs(int fd, uint64_t unique, const Statfs& statfs) { return sendStruct(fd, unique, statfs); }
int replyLseek(int fd, uint64_t unique, const LseekOut& lseek) { return sendStruct(fd, unique, lseek); }
int replyXattrSize(int fd, uint64_t unique, uint32_t size) { return sendStruct(fd, unique, XattrSize{size, 0}); }
int notifyResend(int fd) { return send(fd, 0, kNotifyResend, nullptr, 0); }
int replyData(int fd, uint64_t unique, const void* data, size_t size) { return send(fd, unique, 0, data, size); }

}  // namespace peel::fuse
