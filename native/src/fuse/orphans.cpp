// What a process that is gone has taken from the kernel and not answered, where the kernel cannot send it again: whoever waits for
// it must get an answer, and the only one that is left is an error.
#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <system_error>

#include "fuse/reply.hpp"
#include "fuse/session.hpp"

namespace peel::fuse {
namespace {

/** A thread may have taken a request and died before it said so; those that nobody has taken are not found, which does no harm. */
constexpr uint64_t kPast = 1024 * kUniqueStep;
/** Answered before anything else is served. */
constexpr uint64_t kNear = 32768 * kUniqueStep;
/** A read waits for its deadline and no longer, in which a connection takes no more than this. */
constexpr uint64_t kFar = (uint64_t{16} << 20) * kUniqueStep;

/** Uniques from `from` down to `to`. False: the connection has ended. */
bool failRange(int fd, uint64_t from, uint64_t to, const std::atomic<bool>& stopping) {
  for (uint64_t unique = from; unique >= to && unique >= kUniqueStep; unique -= kUniqueStep) {
    if (stopping.load(std::memory_order_relaxed)) return false;
    const int err = replyError(fd, unique, EIO);
    if (err != 0 && err != ENOENT) return false;
  }
  return true;
}

}  // namespace

void Session::failOrphans() {
  const uint64_t last = options_.taken ? options_.taken->last() : 0;
  if (last == 0) return;
  const uint64_t near = last > kNear ? last - kNear : kUniqueStep;
  if (!failRange(fd(), last + kPast, near, stopping_) || near <= kUniqueStep) return;
  const uint64_t far = near > kFar ? near - kFar : kUniqueStep;
  // What is newly sent has larger numbers than any of these.
  try {
    orphans_ = std::thread([this, near, far] {
      sigset_t all;
      ::sigfillset(&all);
      ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
      failRange(fd(), near - kUniqueStep, far, stopping_);
    });
  } catch (const std::system_error&) {
    failRange(fd(), near - kUniqueStep, far, stopping_);
  }
}

}  // namespace peel::fuse
