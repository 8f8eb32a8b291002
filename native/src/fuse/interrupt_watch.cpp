#include "fuse/interrupt_watch.hpp"

#include <signal.h>

#include <chrono>
#include <system_error>

namespace peel::fuse {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(100);

}  // namespace

void InterruptWatch::add(uint64_t unique) {
  std::lock_guard lock(mutex_);
  if (stopping_) return;
  watched_.push_back(unique);
  try {
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {
    // The next one tries again; until then a process that is killed waits for what it reads.
  }
  wakeUp_.notify_one();
}

void InterruptWatch::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wakeUp_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void InterruptWatch::run() {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    wakeUp_.wait(lock, [this] { return stopping_ || !watched_.empty(); });
    std::vector<uint64_t> round = std::move(watched_);
    watched_.clear();
    lock.unlock();
    std::erase_if(round, [this](uint64_t unique) {
      return reads_->interrupt(unique) != ParkedReads::Interrupt::Waiting;
    });
    lock.lock();
    watched_.insert(watched_.end(), round.begin(), round.end());
    if (!watched_.empty()) wakeUp_.wait_for(lock, kInterval, [this] { return stopping_; });
  }
}

}  // namespace peel::fuse
