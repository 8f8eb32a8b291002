#pragma once
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <unordered_set>

namespace peel {

// At most one writer per span, in this process and in all others. Without it a second decoder, fed with bad bytes that
// no digest covers, could overwrite a span that the first one already declared present.
//
// Within the process a set of spans; across processes an open-file-description lock on byte `span` of the data file,
// which the kernel drops when the holder dies.
class SpanClaims {
 public:
  // Waits until the span is ours. 0 or -errno; every 0 needs a release().
  int acquire(int dataFd, uint32_t span);
  void release(int dataFd, uint32_t span);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_set<uint32_t> held_;
};

}  // namespace peel
