#include "sys/acceptor.hpp"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

namespace peel {
namespace {

// ms until a spare is looked for again, and until it is tried again where there is none left.
constexpr int kRefillMs = 1000;
constexpr int kFullMs = 50;

bool isFull(int err) { return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM; }

}  // namespace

int Acceptor::start(Fd listening, OnConnection onConnection) {
  listening_ = std::move(listening);
  onConnection_ = std::move(onConnection);
  spares_.reserve(kSpares);
  stop_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_.valid()) return -errno;
  const int flags = ::fcntl(listening_.get(), F_GETFL);
  if (flags < 0 || ::fcntl(listening_.get(), F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
  // Signals are for the JavaScript thread.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { work(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::pthread_setname_np(thread_.native_handle(), "peel-accept");
  return 0;
}

void Acceptor::stop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  while (::write(stop_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
  thread_.join();
  listening_.reset();
  spares_.clear();
}

void Acceptor::work() {
  for (bool full = false;;) {
    keepSpares();
    pollfd polled[2] = {{stop_.get(), POLLIN, 0}, {listening_.get(), POLLIN, 0}};
    // Where there is no way to accept what waits, it would be told of again and again.
    const int timeout = full ? kFullMs : spares_.size() < kSpares ? kRefillMs : -1;
    if (::poll(polled, full ? 1 : 2, timeout) < 0 && errno != EINTR) ::usleep(kFullMs * 1000);
    if (polled[0].revents != 0) return;
    full = !acceptOne();
  }
}

// False: whoever waits cannot be accepted now.
bool Acceptor::acceptOne() {
  for (;;) {
    Fd connection(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection.valid()) {
      onConnection_(std::move(connection));
      return true;
    }
    if (!isFull(errno)) return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
    if (spares_.empty()) return false;
    spares_.pop_back();
  }
}

void Acceptor::keepSpares() {
  while (spares_.size() < kSpares) {
    Fd spare(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!spare.valid()) return;
    spares_.push_back(std::move(spare));
  }
}

}  // namespace peel
