#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

namespace peel {

// Decoded spans of one layer that the disk did not take: in memory, for the reads that wait for them. What all layers of the
// process hold together is bounded, and the oldest goes first.
//
// Every method may be called from any thread.
class HeldSpans {
 public:
  using Bytes = std::shared_ptr<const std::vector<uint8_t>>;

  static constexpr size_t kMostBytes = size_t{64} << 20;
  // A read that waits for several spans may need the first one again when the last one has come.
  static constexpr int64_t kKeptNs = 10'000'000'000;

  // `onForget` is called before a span goes: whoever found it here and has not copied it yet must be able to notice.
  explicit HeldSpans(std::function<void()> onForget) : onForget_(std::move(onForget)) {}
  ~HeldSpans() { clear(); }
  HeldSpans(const HeldSpans&) = delete;
  HeldSpans& operator=(const HeldSpans&) = delete;

  bool empty() const { return count_.load(std::memory_order_acquire) == 0; }
  bool has(uint32_t span) const { return !empty() && get(span) != nullptr; }
  Bytes get(uint32_t span) const;
  // Makes room for it first. False when it alone is more than kMostBytes.
  bool put(uint32_t span, Bytes bytes);
  void drop(uint32_t span);
  void clear();

  // Drops what any layer holds for longer than kKeptNs.
  static void expire();
  static size_t totalBytes();

 private:
  struct Held {
    HeldSpans* owner;
    uint32_t span;
    Bytes bytes;
    int64_t since;
  };
  struct Store;
  using Place = std::list<Held>::iterator;
  static Store& store();
  static void forget(Place place);  // with the store's mutex

  const std::function<void()> onForget_;
  std::atomic<size_t> count_{0};
  std::unordered_map<uint32_t, Place> places_;  // guarded by the store's mutex
};

}  // namespace peel
