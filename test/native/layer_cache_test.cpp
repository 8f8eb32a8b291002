// The block cache of one layer in one process: what is present, who waits, what survives.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <set>

#include "cache_fixture.hpp"

using namespace fixture;
using peel::LayerCache;

namespace {

struct Waiter : peel::SpanWaiter {
  int calls = 0, err = -1;
  void resume(int e) override {
    calls++;
    err = e;
  }
};

}  // namespace

TEST(nothing_then_something) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  CHECK_EQ(cache->presentCount(), 0u);
  CHECK_EQ(cache->presentBytes(), 0u);
  std::vector<uint32_t> misses;
  cache->setMissHandler([&](const uint32_t* spans, size_t n) { misses.insert(misses.end(), spans, spans + n); });
  Waiter one, two;
  const uint64_t from = layer.spans[2].end - 1;  // the last byte of span 2, the first of span 3
  CHECK_EQ(cache->ensure(from, 2, &one), 1);
  CHECK((misses == std::vector<uint32_t>{2, 3}));
  CHECK_EQ(cache->ensure(from, 1, &two), 1);
  CHECK_EQ(misses.size(), 2u);
  CHECK_EQ(put(*cache, layer, 2), 0);
  CHECK_EQ(two.calls, 1);
  CHECK_EQ(two.err, 0);
  CHECK_EQ(one.calls, 0);
  CHECK_EQ(put(*cache, layer, 3), 0);
  CHECK_EQ(one.calls, 1);
  CHECK_EQ(cache->ensure(from, 2, &one), 0);
  CHECK(rightAt(*cache, layer, from, 2));
  CHECK_EQ(cache->presentCount(), 2u);
  CHECK_EQ(cache->presentBytes(), layer.spans[3].end - layer.spans[2].start);
  CHECK_EQ(put(*cache, layer, 2), 0);  // again: nothing to do
}

TEST(what_reads_did_is_logged_once_and_in_bounds) {
  peel::ReadLog log(200);
  int told = 0;
  log.touch(60, 70);
  log.setReady([&] { told++; });
  log.touch(69, 130);
  log.touch(60, 130);
  const auto touches = log.takeTouches();
  CHECK_EQ(touches.size(), 71u);
  for (size_t i = 0; i < touches.size(); i++) {
    CHECK_EQ(touches[i].span, 60 + i);
    CHECK(i == 0 || touches[i].at >= touches[i - 1].at);
  }
  CHECK_EQ(told, 0);
  log.touch(60, 130);
  CHECK_EQ(told, 0);
  log.touch(199, 199);
  CHECK_EQ(told, 1);
  for (size_t i = 0; i < peel::ReadLog::kMaxStalls + 5; i++) log.stall({i, 1, 0, 0, 0});
  CHECK_EQ(told, 2);
  const auto stalls = log.takeStalls();
  CHECK_EQ(stalls.kept.size(), peel::ReadLog::kMaxStalls);
  CHECK_EQ(stalls.dropped, 5u);
  CHECK(log.takeStalls().kept.empty());
}

TEST(edges_of_the_stream) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  Waiter waiter;
  const uint64_t size = layer.stream.size();
  CHECK_EQ(cache->ensure(0, 0, &waiter), 0);
  CHECK_EQ(cache->ensure(size, 100, &waiter), 0);
  CHECK_EQ(cache->ensure(UINT64_MAX, UINT64_MAX, &waiter), 0);
  CHECK_EQ(cache->ensure(size - 1, UINT64_MAX, &waiter), 1);
  CHECK(cache->cancel(&waiter));
  CHECK(!cache->cancel(&waiter));
  CHECK_EQ(cache->spanAt(0), 0u);
  for (uint32_t i = 0; i < cache->spanCount(); i++) {
    CHECK_EQ(cache->spanAt(layer.spans[i].start), i);
    CHECK_EQ(cache->spanAt(layer.spans[i].end - 1), i);
  }
  // Past the end there are zeros up to the next block.
  struct stat info;
  CHECK_EQ(fstat(cache->dataFd(), &info), 0);
  CHECK_EQ(static_cast<uint64_t>(info.st_size), (size + 511) / 512 * 512);
}

TEST(failing_and_asking_again) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  int asked = 0;
  cache->setMissHandler([&](const uint32_t*, size_t) { asked++; });
  Waiter a, b, both;
  CHECK_EQ(cache->ensure(layer.spans[1].start, 1, &a), 1);
  CHECK_EQ(cache->ensure(layer.spans[2].start, 1, &b), 1);
  CHECK_EQ(cache->ensure(layer.spans[2].start - 1, 2, &both), 1);
  CHECK_EQ(asked, 2);
  cache->fail(2, EIO);
  CHECK_EQ(a.calls, 0);
  CHECK_EQ(b.err, EIO);
  CHECK_EQ(both.err, EIO);
  CHECK_EQ(cache->ensure(layer.spans[2].start, 1, &b), 1);
  CHECK_EQ(asked, 3);
  // A decode that fails leaves the waiters to the caller's next try.
  Span broken = layer.spans[1];
  broken.data[0] ^= 1;
  peel::DecodeResult result;
  CHECK_EQ(cache->decode(1, inputOf(broken), result), -EBADMSG);
  CHECK(result.failure == peel::SpanFailure::Digest);
  CHECK(!cache->present(1));
  CHECK_EQ(a.calls, 0);
  CHECK_EQ(put(*cache, layer, 1), 0);
  CHECK_EQ(a.err, 0);
  CHECK_EQ(both.calls, 1);
  cache->shutdown();
  CHECK_EQ(b.err, EIO);
  CHECK_EQ(cache->ensure(0, 1, &a), -EIO);
}

TEST(a_handler_that_comes_late) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  Waiter waiter;
  CHECK_EQ(cache->ensure(0, 1, &waiter), 1);
  std::vector<uint32_t> misses;
  cache->setMissHandler([&](const uint32_t* spans, size_t n) { misses.insert(misses.end(), spans, spans + n); });
  CHECK((misses == std::vector<uint32_t>{0}));
  cache->shutdown();
}

TEST(no_span_table) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto refused = [&](std::vector<uint64_t> starts, uint64_t size) {
    auto options = dir.options(layer);
    options.spanStarts = std::move(starts);
    options.streamSize = size;
    std::shared_ptr<LayerCache> cache;
    CHECK_EQ(LayerCache::open(options, cache), -EINVAL);
  };
  refused({}, 0);
  refused({0}, 0);
  refused({1, 2}, 2);
  refused({0, 2}, 3);
  refused({0, 5, 5, 9}, 9);
  refused({0, 5, 4, 9}, 9);
  refused({0, 9, 4}, 4);
  refused({0, UINT64_MAX}, UINT64_MAX);
  auto options = dir.options(layer);
  options.spanStarts = {0, 5, 5};  // an empty last span
  options.streamSize = 5;
  std::shared_ptr<LayerCache> cache;
  CHECK_EQ(LayerCache::open(options, cache), 0);
}

TEST(live_bits_are_shared_and_outlive_a_process) {
  CacheDir dir;
  const Layer layer = testLayer();
  {
    auto one = dir.open(layer);
    auto two = dir.open(layer);
    Waiter waiter;
    CHECK_EQ(two->ensure(0, 1, &waiter), 1);
    CHECK_EQ(put(*one, layer, 0), 0);
    CHECK(two->present(0));
    CHECK_EQ(waiter.calls, 0);
    CHECK(two->settle(0));
    CHECK_EQ(waiter.err, 0);
  }
  CHECK(dir.open(layer)->present(0));  // no sync needed
  // Without the run directory only what was synced counts, and nothing was.
  dir.reboot();
  CHECK_EQ(dir.open(layer)->presentCount(), 0u);
}

TEST(durable_bits) {
  CacheDir dir;
  const Layer layer = testLayer();
  {
    auto cache = dir.open(layer);
    CHECK_EQ(put(*cache, layer, 1), 0);
    CHECK_EQ(put(*cache, layer, 4), 0);
    CHECK_EQ(cache->sync(), 0);
    CHECK_EQ(put(*cache, layer, 2), 0);
  }
  dir.reboot();
  {
    auto cache = dir.open(layer);
    CHECK_EQ(cache->presentCount(), 2u);
    CHECK(cache->present(1) && cache->present(4));
    CHECK(rightAt(*cache, layer, layer.spans[1].start, 100));
  }
  // Of another index: nothing counts, and the bytes are started anew.
  dir.reboot();
  auto options = dir.options(layer);
  options.fingerprint[0] ^= 1;
  std::shared_ptr<LayerCache> other;
  CHECK_EQ(LayerCache::open(options, other), 0);
  CHECK_EQ(other->presentCount(), 0u);
}

TEST(temporary_names_left_by_the_dead_are_no_obstacle) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  const std::string mine = dir.options(layer).dir + "/present." + std::to_string(::getpid()) + "-";
  for (int i = 0; i < 200; i++) {
    peel::Fd left(::open((mine + std::to_string(i) + ".tmp").c_str(), O_WRONLY | O_CREAT, 0600));
    CHECK(left.valid());
  }
  CHECK_EQ(put(*cache, layer, 1), 0);
  CHECK_EQ(cache->sync(), 0);
}

TEST(another_index_while_the_first_is_in_use) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto first = dir.open(layer);
  CHECK_EQ(put(*first, layer, 1), 0);
  auto options = dir.options(layer);
  options.fingerprint[0] ^= 1;
  std::shared_ptr<LayerCache> second;
  CHECK_EQ(LayerCache::open(options, second), 0);
  CHECK_EQ(second->presentCount(), 0u);
  CHECK(first->present(1));
  CHECK(rightAt(*first, layer, layer.spans[1].start, 100));
}

TEST(damaged_files) {
  const Layer layer = testLayer();
  using Damage = std::function<void(const std::string&)>;
  auto truncateTo = [](const std::string& path, off_t size) { CHECK_EQ(::truncate(path.c_str(), size), 0); };
  const std::vector<Damage> damages = {
      [](const std::string& dir) { CHECK_EQ(::unlink((dir + "/data").c_str()), 0); },
      [&](const std::string& dir) { truncateTo(dir + "/data", 512); },
      [&](const std::string& dir) { truncateTo(dir + "/present", 20); },
      [&](const std::string& dir) { truncateTo(dir + "/present", 0); },
      [](const std::string& dir) { flip(dir + "/present", 100); },
      [](const std::string& dir) { flip(dir + "/present", 0); },
      [](const std::string& dir) { replace(dir + "/data"); },
  };
  for (const Damage& damage : damages) {
    for (bool reboot : {true, false}) {
      CacheDir dir;
      {
        auto cache = dir.open(layer);
        CHECK_EQ(put(*cache, layer, 1), 0);
        CHECK_EQ(cache->sync(), 0);
      }
      damage(dir.layer());
      if (reboot) dir.reboot();
      auto cache = dir.open(layer);
      // Live bits of the same data file are as good as ever; everything else starts empty. Never a wrong byte.
      if (cache->present(1)) CHECK(rightAt(*cache, layer, layer.spans[1].start, 100));
      if (reboot) CHECK_EQ(cache->presentCount(), 0u);
      CHECK_EQ(put(*cache, layer, 1), 0);
      CHECK(rightAt(*cache, layer, layer.spans[1].start, 100));
    }
  }
}

TEST(damaged_live_file) {
  const Layer layer = testLayer();
  for (off_t size : {off_t{0}, off_t{10}, off_t{100}, off_t{5000}}) {
    CacheDir dir;
    {
      auto cache = dir.open(layer);
      CHECK_EQ(put(*cache, layer, 1), 0);
      CHECK_EQ(cache->sync(), 0);
    }
    CHECK_EQ(::truncate(dir.live().c_str(), size), 0);
    auto cache = dir.open(layer);
    CHECK_EQ(cache->presentCount(), 1u);
    CHECK(cache->present(1));
  }
}

TEST(checksums_find_a_flipped_bit) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  CHECK_EQ(cache->verify(1), -ENODATA);
  CHECK_EQ(cache->verify(cache->spanCount()), -EINVAL);
  putAll(*cache, layer);
  CHECK_EQ(cache->markComplete(), 0);
  for (uint32_t i = 0; i < cache->spanCount(); i++) CHECK_EQ(cache->verify(i), 0);
  flip(dir.layer() + "/data", static_cast<off_t>(layer.spans[1].start + 77));
  CHECK_EQ(cache->verify(1), -EILSEQ);
  CHECK(!cache->present(1));
  CHECK(!cache->complete());
  CHECK_EQ(put(*cache, layer, 1), 0);
  CHECK_EQ(cache->verify(1), 0);
}

TEST(complete_layer) {
  CacheDir dir;
  Layer layer = testLayer();
  const Bytes whole = layer.stream;
  const uint64_t stated = whole.size() - 5000;  // the end of the stream is zeros
  layer.stream.resize(stated);
  layer.spans.back().end = stated;
  auto cache = dir.open(layer);
  std::array<uint8_t, 32> digest;
  CHECK_EQ(cache->markComplete(), -ENODATA);
  CHECK_EQ(cache->digest(digest), -ENODATA);
  putAll(*cache, layer);
  CHECK_EQ(cache->trailingZeros(), 5000u);
  CHECK_EQ(cache->digest(digest), 0);
  CHECK(digest == peel::Sha256::of(whole.data(), whole.size()));
  CHECK(!cache->complete());
  CHECK_EQ(cache->markComplete(), 0);
  cache.reset();
  dir.reboot();
  cache = dir.open(layer);
  CHECK(cache->complete());
  CHECK_EQ(cache->trailingZeros(), 5000u);
  CHECK_EQ(cache->digest(digest), 0);
  CHECK(digest == peel::Sha256::of(whole.data(), whole.size()));
}

TEST(read_only) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto options = dir.options(layer);
  options.readOnly = true;
  std::shared_ptr<LayerCache> cache;
  CHECK_EQ(LayerCache::open(options, cache), -ENOENT);
  putAll(*dir.open(layer), layer);
  CHECK_EQ(LayerCache::open(options, cache), 0);
  CHECK(cache->present(0));
  CHECK(rightAt(*cache, layer, 0, layer.stream.size()));
  peel::DecodeResult result;
  CHECK_EQ(cache->decode(0, inputOf(layer.spans[0]), result), -EROFS);
  CHECK_EQ(cache->sync(), -EROFS);
}

TEST(removal_waits_for_users) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  CHECK_EQ(peel::tryRemoveLayer(dir.layer(), dir.live()), -EAGAIN);
  cache->shutdown();  // closed, but somebody still holds it
  CHECK_EQ(peel::tryRemoveLayer(dir.layer(), dir.live()), -EAGAIN);
  cache.reset();
  CHECK_EQ(peel::tryRemoveLayer(dir.layer(), dir.live()), 0);
  CHECK(::access(dir.layer().c_str(), F_OK) != 0);
  CHECK(::access(dir.live().c_str(), F_OK) != 0);
  CHECK_EQ(peel::tryRemoveLayer(dir.layer(), dir.live()), 0);
  CHECK_EQ(dir.open(layer)->presentCount(), 0u);
}

TEST(a_stream_that_came_whole) {
  CacheDir dir;
  const Layer layer = testLayer();
  const std::string path = dir.layer() + "/data.tmp";
  auto write = [&](size_t size) {
    peel::Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600));
    CHECK_EQ(::pwrite(fd.get(), layer.stream.data(), size, 0), static_cast<ssize_t>(size));
  };
  auto lazy = dir.open(layer);
  CHECK_EQ(put(*lazy, layer, 0), 0);
  write(layer.stream.size() - 1);
  CHECK_EQ(LayerCache::adopt(dir.options(layer), path, true), -EINVAL);
  write(layer.stream.size());
  CHECK_EQ(LayerCache::adopt(dir.options(layer), path, true), -EAGAIN);
  lazy.reset();
  CHECK_EQ(LayerCache::adopt(dir.options(layer), path, true), 0);
  for (bool reboot : {false, true}) {
    if (reboot) dir.reboot();
    auto cache = dir.open(layer);
    CHECK(cache->complete());
    CHECK_EQ(cache->presentCount(), cache->spanCount());
    for (uint32_t i = 0; i < cache->spanCount(); i++) CHECK_EQ(cache->verify(i), 0);
    CHECK(rightAt(*cache, layer, 0, layer.stream.size()));
  }
}

TEST(full_disk) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  // A file size limit in the middle of span 3 fails like a full disk does, in the middle of a write.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  CHECK_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small{layer.spans[3].start + 100, before.rlim_max};
  CHECK_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  CHECK_EQ(put(*cache, layer, 2), 0);
  peel::DecodeResult result;
  CHECK_EQ(cache->decode(3, inputOf(layer.spans[3]), result), -EFBIG);
  CHECK(result.failure == peel::SpanFailure::Disk);
  CHECK(!cache->present(3));
  CHECK_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  CHECK_EQ(put(*cache, layer, 3), 0);
  CHECK(rightAt(*cache, layer, layer.spans[3].start, 1000));
}

TEST_MAIN
