// The block cache of one layer on a disk that is full, or fails: reads get their bytes all the same.
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "cache/decode_run.hpp"
#include "cache_fixture.hpp"

namespace {

// How many calls fail as they do where the disk did not take what was written before.
std::atomic<int> failingSyncs{0};

}  // namespace

// In the place of the library's: everything of this program comes here.
extern "C" int fdatasync(int fd) {
  if (failingSyncs.load() == 0) return static_cast<int>(syscall(SYS_fdatasync, fd));
  failingSyncs--;
  errno = EIO;
  return -1;
}

using namespace fixture;
using peel::HeldSpans;
using peel::LayerCache;

namespace {

struct Waiter : peel::SpanWaiter {
  std::atomic<int> calls{0}, err{-1};
  void resume(int e) override {
    err = e;
    calls++;
  }
};

// A file size limit fails like a full disk does, in the middle of a write.
class FullDisk {
 public:
  explicit FullDisk(uint64_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &before_), 0);
    const rlimit small{bytes, before_.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  }
  ~FullDisk() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

bool reads(LayerCache& cache, const Layer& layer, uint64_t offset, size_t length) {
  Bytes bytes(length);
  if (cache.read(offset, length, bytes.data()) != 0) return false;
  return std::memcmp(bytes.data(), layer.stream.data() + offset, length) == 0;
}

HeldSpans::Bytes bytesOf(size_t size) { return std::make_shared<std::vector<uint8_t>>(size, uint8_t{1}); }

}  // namespace

TEST(a_read_gets_from_memory_what_the_disk_does_not_take) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  const Span& third = layer.spans[3];
  Waiter both, early;
  {
    FullDisk full(third.start + 100);
    CHECK_EQ(put(*cache, layer, 2), 0);
    CHECK_EQ(cache->ensure(third.start - 10, third.end - third.start + 20, &both), 1);  // 2 (here), 3 and 4
    CHECK_EQ(cache->ensure(third.start, 50, &early), 1);
    peel::DecodeResult result;
    CHECK_EQ(cache->decode(3, inputOf(third), result), 0);
    CHECK_EQ(result.refused, -EFBIG);
    CHECK_EQ(result.streamBytes, third.end - third.start);
    CHECK_EQ(early.calls.load(), 1);
    CHECK_EQ(early.err.load(), 0);
    CHECK_EQ(both.calls.load(), 0);
    CHECK_EQ(cache->decode(4, inputOf(layer.spans[4]), result), 0);
    CHECK_EQ(both.calls.load(), 1);
    CHECK_EQ(both.err.load(), 0);
    // Where nobody waits, nobody is served.
    CHECK_EQ(cache->decode(5, inputOf(layer.spans[5]), result), -EFBIG);
    CHECK(result.failure == peel::SpanFailure::Disk);
    CHECK_EQ(result.refused, 0);
  }
  CHECK(!cache->present(3) && !cache->present(4) && !cache->settle(3));
  CHECK_EQ(cache->presentCount(), 1u);
  Waiter again;
  CHECK_EQ(cache->ensure(third.start - 10, third.end - third.start + 20, &again), 0);
  CHECK(cache->covered(third.start - 10, third.end - third.start + 20));
  CHECK(reads(*cache, layer, third.start - 10, third.end - third.start + 20));
  CHECK(reads(*cache, layer, third.start + 7, 1));
  CHECK(HeldSpans::totalBytes() > 0);
  // The disk takes it again: memory is not needed any more.
  CHECK_EQ(put(*cache, layer, 3), 0);
  CHECK_EQ(put(*cache, layer, 4), 0);
  CHECK_EQ(HeldSpans::totalBytes(), 0u);
  CHECK(rightAt(*cache, layer, third.start, third.end - third.start));
  CHECK(cache->verify(3) == 0);
}

TEST(wrong_bytes_are_wrong_also_in_memory) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  Waiter waiter;
  FullDisk full(100);
  CHECK_EQ(cache->ensure(layer.spans[1].start, 1, &waiter), 1);
  auto input = inputOf(layer.spans[1]);
  input.size /= 2;
  peel::DecodeResult result;
  CHECK_EQ(cache->decode(1, input, result), -EBADMSG);
  CHECK_EQ(waiter.calls.load(), 0);
  CHECK_EQ(HeldSpans::totalBytes(), 0u);
  CHECK(cache->cancel(&waiter));
}

TEST(spans_after_one_in_memory_have_the_right_window) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  Waiter waiter;
  FullDisk full(layer.spans[3].start + 100);
  const uint64_t from = layer.spans[2].start, size = layer.spans[5].end - from;
  CHECK_EQ(cache->ensure(from, size, &waiter), 1);
  peel::DecodeRun run;
  run.kind = peel::SpanKind::GzipCheckpoint;
  Bytes data;
  for (uint32_t i = 2; i <= 5; i++) {
    const auto input = inputOf(layer.spans[i]);
    run.pieces.push_back({input.bits, data.size(), data.size() + input.size});
    data.insert(data.end(), input.data, input.data + input.size);
  }
  const auto first = inputOf(layer.spans[2]);
  run.data = data.data();
  run.size = data.size();
  run.window = first.window;
  run.windowSize = first.windowSize;
  peel::DecodeRunResult result;
  peel::decodeRun(*cache, 2, run, result);
  CHECK_EQ(result.err, 0);
  CHECK_EQ(result.present, 4u);
  CHECK_EQ(result.refused, -EFBIG);
  CHECK_EQ(waiter.calls.load(), 1);
  CHECK(reads(*cache, layer, from, size));
}

TEST(what_all_layers_hold_is_bounded_and_the_oldest_goes_first) {
  int forgotten = 0;
  HeldSpans one([&] { forgotten++; });
  HeldSpans two([&] { forgotten++; });
  const size_t quarter = HeldSpans::kMostBytes / 4;
  CHECK(one.put(1, bytesOf(quarter)));
  CHECK(one.put(2, bytesOf(quarter)));
  CHECK(two.put(1, bytesOf(quarter)));
  CHECK(two.put(2, bytesOf(quarter)));
  CHECK_EQ(forgotten, 0);
  CHECK(two.put(3, bytesOf(quarter + 1)));
  CHECK_EQ(forgotten, 2);
  CHECK(one.empty() && !one.has(1) && two.has(1) && two.has(3));
  CHECK(!two.put(4, bytesOf(HeldSpans::kMostBytes + 1)));
  CHECK(two.put(3, bytesOf(1)));
  CHECK_EQ(two.get(3)->size(), 1u);
  CHECK_EQ(HeldSpans::totalBytes(), 2 * quarter + 1);
  two.clear();
  CHECK_EQ(HeldSpans::totalBytes(), 0u);
}

TEST(a_read_that_was_overtaken_notices) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  Waiter waiter;
  const uint64_t at = layer.spans[3].start;
  {
    FullDisk full(at + 100);
    CHECK_EQ(cache->ensure(at, 1, &waiter), 1);
    CHECK_EQ(put(*cache, layer, 3), 0);
  }
  const uint64_t generation = cache->generation();
  CHECK_EQ(cache->ensure(at, 1, &waiter), 0);
  HeldSpans other([] {});
  CHECK(other.put(0, bytesOf(HeldSpans::kMostBytes)));
  CHECK(!cache->unchanged(generation));
  CHECK_EQ(cache->ensure(at, 1, &waiter), 1);
  CHECK(cache->cancel(&waiter));
}

TEST(a_data_file_that_was_cut_is_filled_again) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  putAll(*cache, layer);
  const uint64_t cut = layer.spans[5].start + 10;
  CHECK_EQ(ftruncate(cache->dataFd(), static_cast<off_t>(cut)), 0);
  Bytes bytes(100);
  CHECK(reads(*cache, layer, layer.spans[4].start, 1000));
  CHECK_EQ(cache->read(layer.spans[7].start, 100, bytes.data()), -EAGAIN);
  for (uint32_t span = 0; span < cache->spanCount(); span++) CHECK_EQ(cache->present(span), span < 5);
  Waiter waiter;
  CHECK_EQ(cache->ensure(layer.spans[5].start, 100, &waiter), 1);
  CHECK_EQ(put(*cache, layer, 5), 0);
  CHECK_EQ(waiter.calls.load(), 1);
  CHECK(reads(*cache, layer, layer.spans[5].start, 100));
  // The padding behind the last span is there again, too.
  const uint32_t last = cache->spanCount() - 1;
  CHECK_EQ(put(*cache, layer, last), 0);
  Bytes padded(512);
  CHECK_EQ(cache->copy(layer.stream.size() / 512 * 512, 512, padded.data()), 0);
}

TEST(a_span_that_is_written_behind_a_cut_makes_no_others_zeros) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  for (uint32_t i = 0; i < 8; i++) CHECK_EQ(put(*cache, layer, i), 0);
  CHECK_EQ(ftruncate(cache->dataFd(), static_cast<off_t>(layer.spans[5].start + 10)), 0);
  CHECK_EQ(put(*cache, layer, 9), 0);
  for (uint32_t span = 0; span < 10; span++) CHECK_EQ(cache->present(span), span < 5 || span == 9);
  CHECK(reads(*cache, layer, layer.spans[9].start, 1000));
}

TEST(a_disk_that_does_not_give_a_span_again_and_again_is_not_asked_for_it) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  const uint64_t at = layer.spans[5].start;
  for (int i = 0; i < 2; i++) {
    CHECK_EQ(put(*cache, layer, 5), 0);
    CHECK(cache->distrust(at, 100));
    CHECK(!cache->present(5));
  }
  Waiter waiter;
  peel::DecodeResult result;
  CHECK_EQ(cache->decode(5, inputOf(layer.spans[5]), result), -EIO);
  CHECK_EQ(cache->ensure(at, 100, &waiter), 1);
  CHECK_EQ(cache->decode(5, inputOf(layer.spans[5]), result), 0);
  CHECK_EQ(result.refused, -EIO);
  CHECK(reads(*cache, layer, at, 100));
  CHECK_EQ(put(*cache, layer, 6), 0);
  // Where nobody fetches any more the disk's word is the last one.
  cache->shutdown();
  CHECK(!cache->distrust(layer.spans[6].start, 100));
}

TEST(what_the_disk_did_not_take_in_the_end_is_not_present) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  for (uint32_t span : {1u, 2u}) CHECK_EQ(put(*cache, layer, span), 0);
  CHECK_EQ(cache->sync(), 0);
  for (uint32_t span : {3u, 4u}) CHECK_EQ(put(*cache, layer, span), 0);
  const uint64_t generation = cache->generation();
  failingSyncs = 1;
  CHECK_EQ(cache->sync(), -EIO);
  for (uint32_t span = 0; span < cache->spanCount(); span++) CHECK_EQ(cache->present(span), span == 1 || span == 2);
  CHECK(!cache->unchanged(generation));
  Waiter waiter;
  CHECK_EQ(cache->ensure(layer.spans[3].start, 1, &waiter), 1);
  CHECK_EQ(put(*cache, layer, 3), 0);
  CHECK_EQ(waiter.calls.load(), 1);
  CHECK_EQ(cache->sync(), 0);
  // Nothing is complete that was not written.
  putAll(*cache, layer);
  failingSyncs = 1;
  CHECK_EQ(cache->markComplete(), -EIO);
  CHECK(!cache->complete());
  CHECK_EQ(cache->presentCount(), 3u);
  putAll(*cache, layer);
  CHECK_EQ(cache->markComplete(), 0);
  // What was written before stays.
  failingSyncs = 1;
  CHECK_EQ(cache->sync(), -EIO);
  CHECK(cache->complete());
  CHECK_EQ(cache->presentCount(), cache->spanCount());
}

TEST(many_readers_on_a_full_disk) {
  CacheDir dir;
  const Layer layer = testLayer(2'000'000, 20'000);
  auto cache = dir.open(layer);
  FullDisk full(layer.spans[2].start);
  std::atomic<int> wrong{0}, right{0};
  cache->setMissHandler([](const uint32_t*, size_t) {});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&, t] {
      for (uint32_t i = 0; i < cache->spanCount(); i++) {
        const uint32_t span = (i * 7 + static_cast<uint32_t>(t) * 13) % cache->spanCount();
        Waiter waiter;
        const int state = cache->ensure(layer.spans[span].start, 500, &waiter);
        if (state == 1) {
          peel::DecodeResult result;
          // Another thread may have served us meanwhile: then nobody waits, and the disk refuses.
          (void)cache->decode(span, inputOf(layer.spans[span], span + 1 == layer.spans.size()), result);
          while (waiter.calls.load() == 0) std::this_thread::yield();
        }
        if (reads(*cache, layer, layer.spans[span].start, 500)) right++;
        else wrong++;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(wrong.load(), 0);
  CHECK_EQ(right.load(), static_cast<int>(4 * cache->spanCount()));
}

TEST_MAIN
