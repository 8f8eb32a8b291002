// The kernel sends one INTERRUPT per request. A read that went on waiting after a harmless signal gets none for the
// SIGKILL that may follow, so such reads are looked at again until they are answered.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "fuse/parked_reads.hpp"

namespace peel::fuse {

class InterruptWatch {
 public:
  explicit InterruptWatch(std::shared_ptr<ParkedReads> reads) : reads_(std::move(reads)) {}
  ~InterruptWatch() { stop(); }

  void add(uint64_t unique);
  void stop();

 private:
  void run();

  const std::shared_ptr<ParkedReads> reads_;
  std::mutex mutex_;
  std::condition_variable wakeUp_;
  std::vector<uint64_t> watched_;
  std::thread thread_;  // started by the first add()
  bool stopping_ = false;
};

}  // namespace peel::fuse
