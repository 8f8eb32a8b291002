#include "keeper/connection.hpp"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace peel::keeper {

short Connection::events() const { return !due_.empty() ? POLLOUT : isWaiting_ ? 0 : POLLIN; }

bool Connection::receive(FdMessage& out, std::string& problem) {
  const int err = receiveFdMessage(socket_.get(), out, MSG_DONTWAIT);
  if (err == -EAGAIN) return false;
  if (err == -EMSGSIZE) problem = "a message of more than " + std::to_string(kMaxFdMessage) + " bytes";
  else if (err == -EMFILE) problem = "not all of the file descriptors could be taken";
  else if (err != 0) socket_.reset();
  return err == 0 || !problem.empty();
}

void Connection::finish(std::string text) {
  isWaiting_ = false;
  answer(std::move(text));
}

void Connection::closeIfGone() {
  pollfd entry{socket_.get(), 0, 0};
  if (::poll(&entry, 1, 0) > 0) socket_.reset();
}

void Connection::flush(const FdStore& store) {
  while (!due_.empty() && socket_.valid()) {
    const Due& next = due_.front();
    const int fd = next.name.empty() ? -1 : store.find(next.name);
    if (fd >= 0 || next.name.empty()) {
      const int err = sendFdMessage(socket_.get(), next.text, fd, MSG_DONTWAIT);
      if (err == -EAGAIN) return;
      if (err != 0) return socket_.reset();
    }
    due_.pop_front();
  }
}

bool isTrusted(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == ::geteuid());
}

}  // namespace peel::keeper
