#include "sys/fd_message.hpp"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <utility>

#include "sys/clock.hpp"

namespace peel {
namespace {

/** SCM_MAX_FD: the kernel passes no more in one message. */
constexpr size_t kMaxFds = 253;

void takeFds(msghdr& message, std::vector<Fd>& out) {
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      ::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      out.emplace_back(fd);
    }
  }
}

/** 0, -ETIMEDOUT or -errno. */
int waitFor(int socket, short events, int timeoutMs) {
  const int64_t end = monotonicNs() + int64_t{timeoutMs} * 1'000'000;
  for (;;) {
    const int64_t leftMs = (end - monotonicNs() + 999'999) / 1'000'000;
    pollfd entry{socket, events, 0};
    const int found = ::poll(&entry, 1, leftMs > 0 ? static_cast<int>(leftMs) : 0);
    if (found > 0) return 0;
    if (found < 0 && errno != EINTR) return -errno;
    if (leftMs <= 0) return -ETIMEDOUT;
  }
}

}  // namespace

int connectFdSocket(const std::string& path, Fd& out) {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof to.sun_path) return -ENAMETOOLONG;
  ::memcpy(to.sun_path, path.data(), path.size());
  Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return -errno;
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) < 0) return -errno;
  out = std::move(fd);
  return 0;
}

int sendFdMessage(int socket, const std::string& text, int fd, int flags) {
  if (text.empty() || text.size() > kMaxFdMessage) return -EMSGSIZE;
  iovec part{const_cast<char*>(text.data()), text.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    ::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  ssize_t size;
  do {
    size = ::sendmsg(socket, &message, flags | MSG_NOSIGNAL);
  } while (size < 0 && errno == EINTR);
  return size < 0 ? -errno : 0;
}

int receiveFdMessage(int socket, FdMessage& out, int flags) {
  out.fds.clear();
  out.text.resize(kMaxFdMessage);
  iovec part{out.text.data(), out.text.size()};
  // Also credentials, which a peer may add to its message.
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int)) + CMSG_SPACE(sizeof(ucred))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size;
  do {
    size = ::recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  const int err = size < 0 ? -errno : 0;
  out.text.resize(size < 0 ? 0 : static_cast<size_t>(size));
  if (err != 0) return err;
  takeFds(message, out.fds);
  const int lost = (message.msg_flags & MSG_TRUNC) != 0    ? -EMSGSIZE
                   : (message.msg_flags & MSG_CTRUNC) != 0 ? -EMFILE
                   : size == 0 && out.fds.empty()          ? -ENOTCONN
                                                           : 0;
  if (lost != 0) out.fds.clear();
  return lost;
}

int makeFdSocket(Fd& ours, Fd& theirs) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return -errno;
  ours.reset(pair[0]);
  theirs.reset(pair[1]);
  return 0;
}

int receiveFd(int socket, Fd& out) {
  FdMessage message;
  const int err = receiveFdMessage(socket, message, 0);
  if (err == -ENOTCONN || (err == 0 && message.fds.size() != 1)) return -ENODATA;
  if (err == 0) out = std::move(message.fds[0]);
  return err;
}

int exchangeFdMessages(int socket, const std::string& request, int fd, int timeoutMs, std::vector<FdMessage>& answers) {
  for (;;) {
    const int err = sendFdMessage(socket, request, fd, MSG_DONTWAIT);
    if (err == 0) break;
    if (err != -EAGAIN) return err;
    const int waited = waitFor(socket, POLLOUT, timeoutMs);
    if (waited != 0) return waited;
  }
  for (;;) {
    FdMessage answer;
    const int err = receiveFdMessage(socket, answer, MSG_DONTWAIT);
    if (err == -EAGAIN) {
      const int waited = waitFor(socket, POLLIN, timeoutMs);
      if (waited != 0) return waited;
      continue;
    }
    if (err != 0) return err;
    answer.text.shrink_to_fit();
    const bool isLast = answer.fds.empty();
    answers.push_back(std::move(answer));
    if (isLast) return 0;
  }
}

}  // namespace peel
