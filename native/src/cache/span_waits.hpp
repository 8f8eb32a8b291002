#pragma once
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace peel {

// Somebody who waits for spans. Intrusive: the owner keeps it alive until resume() was called or cancel() returned true.
struct SpanWaiter {
  // err 0: try again from the start; err > 0: errno to answer. Called without locks held, on any thread.
  virtual void resume(int err) = 0;
  virtual ~SpanWaiter() = default;
};

// Who waits for which spans. Not safe by itself: LayerCache calls it under its mutex and resumes what it is handed
// after letting the mutex go.
class SpanWaits {
 public:
  void park(SpanWaiter* waiter, std::vector<uint32_t> spans);
  bool cancel(SpanWaiter* waiter);
  // Waiters for which `span` was the last missing one.
  std::vector<SpanWaiter*> done(uint32_t span);
  // Every waiter of `span`, whatever else it waits for.
  std::vector<SpanWaiter*> failed(uint32_t span);
  std::vector<SpanWaiter*> takeAll();

 private:
  struct Parked {
    std::vector<uint32_t> spans;
    size_t left;
  };
  std::unordered_map<SpanWaiter*, Parked> parked_;
  std::unordered_map<uint32_t, std::vector<SpanWaiter*>> bySpan_;
};

}  // namespace peel
