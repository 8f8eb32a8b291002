#include "keeper/notify_socket.hpp"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <string_view>

#include "keeper/request.hpp"

namespace peel::keeper {

int bindPrivate(const std::string& path, int type, Fd& out) {
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof at.sun_path) return -ENAMETOOLONG;
  ::memcpy(at.sun_path, path.data(), path.size());
  Fd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return -errno;
  if (::unlink(path.c_str()) < 0 && errno != ENOENT) return -errno;
  const mode_t before = ::umask(0177);
  const int bound = ::bind(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) < 0 ? -errno : 0;
  ::umask(before);
  if (bound == 0) out = std::move(fd);
  return bound;
}

int NotifySocket::open(const std::string& path, Fd& out) {
  Fd fd;
  const int err = bindPrivate(path, SOCK_DGRAM, fd);
  if (err != 0) return err;
  const int on = 1;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0) return -errno;
  out = std::move(fd);
  return 0;
}

bool NotifySocket::receive(pid_t pid, Notice& out) {
  char bytes[4096];
  iovec part{bytes, sizeof bytes};
  // No room for file descriptors: the kernel closes those that come.
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size;
  do {
    size = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return false;
  out = {};
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_CREDENTIALS || header->cmsg_len != CMSG_LEN(sizeof(ucred))) return true;
  ucred sender{};
  ::memcpy(&sender, CMSG_DATA(header), sizeof sender);
  if (sender.pid != pid || pid <= 0) return true;
  // A daemon that stops is no reason to end the keeper, and its watchdog is the keeper.
  forEachLine({bytes, static_cast<size_t>(size)}, [&out](std::string_view key, std::string_view value) {
    if (key == "READY" && value == "1") out.isReady = true;
    if (key == "WATCHDOG" && value == "1") out.isAlive = true;
    if (key != "READY" && key != "STATUS" && key != "RELOADING" && key != "MONOTONIC_USEC") return;
    out.forward.append(out.forward.empty() ? "" : "\n").append(key).append("=").append(value);
  });
  return true;
}

}  // namespace peel::keeper
