#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace peel {

// A span that was read for the first time through one LayerCache; all times are ns of CLOCK_MONOTONIC.
struct SpanTouch {
  uint32_t span;
  int64_t at;
};

// One wait of one read.
struct ReadStall {
  uint64_t offset;  // stream bytes that were read
  uint64_t length;
  int64_t start;
  int64_t end;
  int err;  // 0: it went on with its bytes
};

// What reads of a layer did that somebody may want to learn from. It is filled by any thread and emptied by one, whenever
// that one likes: each span is noted once, and of stalls no more than kMaxStalls are kept.
class ReadLog {
 public:
  static constexpr size_t kMaxStalls = 65536;

  explicit ReadLog(uint32_t spanCount) : touched_((static_cast<size_t>(spanCount) + 63) / 64) {}

  // Spans first..last are read. One load for 64 spans that were touched before. What is done after it returned, on any
  // thread that found the span touched, is done after takeTouches() can see it.
  void touch(uint32_t first, uint32_t last);
  void stall(const ReadStall& stall);

  std::vector<SpanTouch> takeTouches();  // in the order of their times
  struct Stalls {
    std::vector<ReadStall> kept;
    uint64_t dropped = 0;  // came when there were too many, since the last take
  };
  Stalls takeStalls();

  // Called, without locks held, whenever there is something to take and was nothing of the kind before.
  void setReady(std::function<void()> ready);

 private:
  void note(uint32_t first, uint32_t last);
  void tell();

  std::vector<std::atomic<uint64_t>> touched_;
  std::mutex mutex_;  // guards all below
  std::vector<SpanTouch> touches_;
  Stalls stalls_;
  std::shared_ptr<std::function<void()>> ready_;
};

}  // namespace peel
