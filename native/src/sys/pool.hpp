#pragma once
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>

namespace peel {

// Threads of our own, so that a burst of decoding never queues behind (or in front of) libuv's file system and DNS work.
// Four of them exist: cpu() for work that is short and never waits for a disk on purpose, background() for such work that
// nobody waits for, which leaves the processors to whoever wants them, io() for reads and syncs, and hashing() for what takes
// long and leaves the processors to others as well: behind it nothing waits that a read may come to need.
class Pool {
 public:
  static Pool& cpu();
  static Pool& background();
  static Pool& io();
  static Pool& hashing();

  // Runs `job` on some thread of the pool, in the order of arrival. The job must not throw.
  void submit(std::function<void()> job);
  size_t threads() const { return threads_; }

 private:
  Pool(size_t threads, int niceness);
  void work();

  const size_t threads_;
  std::mutex mutex_;
  std::condition_variable wakeUp_;
  std::deque<std::function<void()>> jobs_;
};

}  // namespace peel
