#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "apply/layer_streams.hpp"
#include "apply/op_runner.hpp"

namespace peel {

// Makes a tree beneath a directory that is its own: encoded operations in order, on one thread, files as soon as their
// bytes are in the stream. The first failure ends it.
class TreeWriter {
 public:
  struct Failure {
    int err = 0;       // errno; ECANCELED: closed before all was done
    std::string what;  // "write 'usr/bin/env'"
  };

  // 0 or -errno: ENOENT, ENOTDIR (also for a symbolic link), ENOTEMPTY.
  static int open(const std::string& dir, Ownership ownership, std::shared_ptr<TreeWriter>& out);
  TreeWriter(Fd root, Ownership ownership);
  ~TreeWriter();

  LayerStreams& streams() { return streams_; }
  void submit(std::vector<uint8_t> ops);
  // Calls `done` when all that was submitted before is done, or with the first failure; on the thread, or at once.
  void finish(std::function<void(const Failure&)> done);
  Failure failure();
  bool closed();
  // Ends what waits and, after the system call that runs, all else.
  void stop();
  // The same, and waits for the end of the thread. Idempotent, any thread.
  void close();

  uint64_t ops() const { return ops_.load(std::memory_order_relaxed); }
  const OpRunner& runner() const { return runner_; }

 private:
  struct Waiter {
    uint64_t batches;
    std::function<void(const Failure&)> done;
  };

  void work();
  Failure runBatch(const std::vector<uint8_t>& batch);
  std::vector<Waiter> settled();

  std::atomic<bool> stop_{false};
  LayerStreams streams_;
  OpRunner runner_;
  std::atomic<uint64_t> ops_{0};

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::vector<uint8_t>> batches_;
  uint64_t submitted_ = 0, finished_ = 0;  // batches
  std::vector<Waiter> waiters_;
  Failure failure_;
  bool ended_ = false;  // the thread takes no more waiters

  std::mutex joining_;
  std::thread thread_;
};

}  // namespace peel
