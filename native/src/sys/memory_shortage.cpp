#include "sys/memory_shortage.hpp"

#include <time.h>

#include <atomic>
#include <new>

#include "sys/clock.hpp"
#include "sys/files.hpp"

namespace peel {
namespace {

constexpr int64_t kTryAgainNs = 10'000'000;
// What a thread asks for within so long counts as one allocation.
constexpr int64_t kApartNs = 10 * kTryAgainNs;
// Giving back takes longer than a try.
constexpr int64_t kTrimNs = 500'000'000;

std::atomic<int64_t> patienceNs{0};
std::atomic<int64_t> lastShortage{0};
std::atomic<int64_t> lastTrim{0};

// Allocates nothing.
void tryAgainLater() {
  static thread_local int64_t since = 0;
  static thread_local int64_t last = 0;
  const int64_t now = monotonicNs();
  if (now - last > kApartNs) since = now;
  MemoryShortage::note();
  if (now - since >= patienceNs.load(std::memory_order_relaxed)) {
    last = 0;
    throw std::bad_alloc();
  }
  const timespec pause{0, kTryAgainNs};
  ::nanosleep(&pause, nullptr);
  last = monotonicNs();
}

}  // namespace

void MemoryShortage::watch(std::chrono::milliseconds patience) {
  patienceNs = std::chrono::nanoseconds(patience).count();
  std::set_new_handler(tryAgainLater);
}

void MemoryShortage::note() {
  const int64_t now = monotonicNs();
  lastShortage.store(now, std::memory_order_relaxed);
  int64_t trimmed = lastTrim.load(std::memory_order_relaxed);
  if ((trimmed != 0 && now - trimmed < kTrimNs) || !lastTrim.compare_exchange_strong(trimmed, now)) return;
  trimHeap();
}

int64_t MemoryShortage::lastAt() { return lastShortage.load(std::memory_order_relaxed); }

}  // namespace peel
