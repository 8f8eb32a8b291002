#include "cache/read_log.hpp"

#include <utility>

#include "sys/clock.hpp"

namespace peel {
namespace {

// Bits of the word `word` that spans first..last have.
uint64_t maskOf(size_t word, uint32_t first, uint32_t last) {
  uint64_t mask = ~uint64_t{0};
  if (word == first / 64) mask &= ~uint64_t{0} << (first % 64);
  if (word == last / 64) mask &= ~uint64_t{0} >> (63 - last % 64);
  return mask;
}

}  // namespace

void ReadLog::touch(uint32_t first, uint32_t last) {
  for (size_t word = first / 64; word <= last / 64; word++) {
    const uint64_t mask = maskOf(word, first, last);
    if ((touched_[word].load(std::memory_order_acquire) & mask) != mask) return note(first, last);
  }
}

void ReadLog::note(uint32_t first, uint32_t last) {
  bool fresh = false;
  {
    std::lock_guard lock(mutex_);
    const bool empty = touches_.empty();
    // Under the mutex, so that the times ascend.
    const int64_t now = monotonicNs();
    for (size_t word = first / 64; word <= last / 64; word++) {
      const uint64_t mask = maskOf(word, first, last);
      uint64_t missing = mask & ~touched_[word].load(std::memory_order_relaxed);
      for (; missing != 0; missing &= missing - 1) {
        const auto bit = static_cast<uint32_t>(__builtin_ctzll(missing));
        touches_.push_back({static_cast<uint32_t>(word * 64) + bit, now});
      }
      // After they were noted: who sees the bit must not get ahead of them.
      touched_[word].fetch_or(mask, std::memory_order_release);
    }
    fresh = empty && !touches_.empty();
  }
  if (fresh) tell();
}

void ReadLog::stall(const ReadStall& stall) {
  {
    std::lock_guard lock(mutex_);
    if (stalls_.kept.size() >= kMaxStalls) {
      stalls_.dropped++;
      return;
    }
    stalls_.kept.push_back(stall);
    if (stalls_.kept.size() > 1) return;
  }
  tell();
}

std::vector<SpanTouch> ReadLog::takeTouches() {
  std::lock_guard lock(mutex_);
  return std::exchange(touches_, {});
}

ReadLog::Stalls ReadLog::takeStalls() {
  std::lock_guard lock(mutex_);
  return std::exchange(stalls_, {});
}

void ReadLog::setReady(std::function<void()> ready) {
  std::lock_guard lock(mutex_);
  ready_ = ready ? std::make_shared<std::function<void()>>(std::move(ready)) : nullptr;
}

void ReadLog::tell() {
  std::shared_ptr<std::function<void()>> ready;
  {
    std::lock_guard lock(mutex_);
    ready = ready_;
  }
  if (ready) (*ready)();
}

}  // namespace peel
