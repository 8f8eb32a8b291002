#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

namespace peel {

// Somebody who waits for spans. Intrusive: the owner keeps it alive until resume() was called or cancel() returned true.
struct SpanWaiter {
  // err 0: try again from the start; err > 0: errno to answer. Called without locks held, on any thread.
  virtual void resume(int err) = 0;
  virtual ~SpanWaiter() = default;
};

// A read that waits: who, for which stream bytes, since when (ns of CLOCK_MONOTONIC).
struct ParkedRead {
  SpanWaiter* waiter = nullptr;
  uint64_t offset = 0;
  uint64_t length = 0;
  int64_t since = 0;
};

// Who waits for which spans. Not safe by itself: LayerCache calls it under its mutex and resumes what it is handed
// after letting the mutex go.
class SpanWaits {
 public:
  void park(const ParkedRead& read, std::vector<uint32_t> spans);
  std::optional<ParkedRead> cancel(SpanWaiter* waiter);
  // Reads for which `span` was the last missing one.
  std::vector<ParkedRead> done(uint32_t span);
  // Every read of `span`, whatever else it waits for.
  std::vector<ParkedRead> failed(uint32_t span);
  bool any(uint32_t span) const { return bySpan_.contains(span); }
  std::vector<ParkedRead> takeAll();

 private:
  struct Parked {
    ParkedRead read;
    std::vector<uint32_t> spans;
    size_t left;
  };
  std::unordered_map<SpanWaiter*, Parked> parked_;
  std::unordered_map<uint32_t, std::vector<SpanWaiter*>> bySpan_;
};

}  // namespace peel
