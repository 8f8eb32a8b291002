#include "sys/receive_fd.hpp"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

namespace peel {

int makeFdSocket(Fd& ours, Fd& theirs) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return -errno;
  ours.reset(pair[0]);
  theirs.reset(pair[1]);
  return 0;
}

int receiveFd(int socket, Fd& out) {
  char byte;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size;
  do {
    size = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return -errno;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (size == 0 || header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len != CMSG_LEN(sizeof(int))) {
    return -ENODATA;
  }
  int fd;
  ::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  out.reset(fd);
  return 0;
}

}  // namespace peel
