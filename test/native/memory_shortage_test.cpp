// No memory: what needs it waits for a while, then fails, and goes on when there is some again.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>
#include <thread>

#include "cache_fixture.hpp"
#include "sys/clock.hpp"
#include "sys/memory_shortage.hpp"

using namespace fixture;
using namespace std::chrono_literals;
using peel::MemoryShortage;

namespace {

// Allocations of so many bytes find no memory.
std::atomic<size_t> refused{SIZE_MAX};

}  // namespace

// As the library's, which sanitizers replace by ones that end the process.
void* operator new(size_t size) {
  for (;;) {
    if (size < refused.load()) {
      if (void* bytes = std::malloc(size > 0 ? size : 1)) return bytes;
    }
    const std::new_handler handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc();
    handler();
  }
}
void* operator new[](size_t size) { return operator new(size); }
void operator delete(void* bytes) noexcept { std::free(bytes); }
void operator delete(void* bytes, size_t) noexcept { std::free(bytes); }
void operator delete[](void* bytes) noexcept { std::free(bytes); }
void operator delete[](void* bytes, size_t) noexcept { std::free(bytes); }

namespace {

constexpr size_t kMuch = size_t{1} << 20;

double msOf(const std::function<void()>& work) {
  const int64_t start = peel::monotonicNs();
  work();
  return static_cast<double>(peel::monotonicNs() - start) / 1e6;
}

bool allocates(size_t size) {
  try {
    Bytes bytes(size);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

struct Waiter : peel::SpanWaiter {
  std::atomic<int> calls{0}, err{-1};
  void resume(int e) override {
    err = e;
    calls++;
  }
};

}  // namespace

TEST(an_allocation_waits_until_others_free_theirs) {
  MemoryShortage::watch(30s);
  CHECK_EQ(MemoryShortage::lastAt(), 0);
  refused = kMuch;
  std::thread others([] {
    std::this_thread::sleep_for(60ms);
    refused = SIZE_MAX;
  });
  CHECK(msOf([] { CHECK(allocates(kMuch)); }) >= 50);
  others.join();
  CHECK(MemoryShortage::lastAt() > peel::monotonicNs() - 10'000'000'000);
}

TEST(an_allocation_fails_after_a_while_and_the_next_one_waits_as_long) {
  MemoryShortage::watch(40ms);
  // What is asked for right behind the one before counts with it.
  std::this_thread::sleep_for(150ms);
  refused = kMuch;
  for (int i = 0; i < 2; i++) {
    const double ms = msOf([] { CHECK(!allocates(kMuch)); });
    CHECK(ms >= 35 && ms < 5000);
  }
  refused = SIZE_MAX;
  CHECK(allocates(kMuch));
}

TEST(a_span_that_finds_no_memory_is_decoded_later_and_its_readers_wait) {
  onEachBackend([] {
    MemoryShortage::watch(5ms);
    CacheDir dir;
    const Layer layer = testLayer();
    auto cache = dir.open(layer);
    const Span& second = layer.spans[2];
    Waiter reader;
    CHECK_EQ(cache->ensure(second.start, 100, &reader), 1);
    peel::DecodeResult result;
    // On a thread of its own, which has nothing of an earlier span.
    std::thread([&] {
      refused = 8192;
      const int err = cache->decode(2, inputOf(layer.spans[2]), result);
      refused = SIZE_MAX;
      CHECK_EQ(err, -ENOMEM);
    }).join();
    CHECK(!cache->present(2));
    CHECK_EQ(reader.calls.load(), 0);
    CHECK(cache->isAwaited(2));
    CHECK_EQ(put(*cache, layer, 2), 0);
    CHECK(rightAt(*cache, layer, second.start, second.end - second.start));
    CHECK_EQ(reader.calls.load(), 1);
    CHECK_EQ(reader.err.load(), 0);
    // Nothing is claimed or pinned any more.
    peel::LayerCache::Evicted evicted;
    CHECK_EQ(cache->evict({2}, evicted), 0);
    CHECK_EQ(evicted.spans, 1u);
  });
}

TEST(what_fails_for_want_of_memory_holds_nothing) {
  MemoryShortage::watch(5ms);
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  putAll(*cache, layer);
  std::array<uint8_t, 32> digest;
  refused = 8192;
  bool failed = false;
  try {
    cache->digest(digest);
  } catch (const std::bad_alloc&) {
    failed = true;
  }
  refused = SIZE_MAX;
  CHECK(failed);
  CHECK_EQ(cache->digest(digest), 0);
  peel::LayerCache::Evicted evicted;
  CHECK_EQ(cache->evict({1}, evicted), 0);
  CHECK_EQ(evicted.spans, 1u);
}

TEST_MAIN
