#include "sys/listen_unix.hpp"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>

namespace peel {

int listenUnix(const std::string& path, Fd& out) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return -ENAMETOOLONG;
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return -errno;
  // The file gets the socket's mode: nobody comes in between bind(2) and chmod(2).
  if (::fchmod(fd.get(), 0600) < 0) return -errno;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) return -errno;
  if (::listen(fd.get(), SOMAXCONN) < 0) {
    const int err = -errno;
    ::unlink(path.c_str());
    return err;
  }
  out = std::move(fd);
  return 0;
}

}  // namespace peel
