// Many threads and several processes on one cache: every answer right, no waiter forgotten, nothing read while removed.
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include "cache_fixture.hpp"
#include "sys/pool.hpp"

using namespace fixture;
using peel::LayerCache;

namespace {

// A reader that parks and comes back, like a FUSE request; it counts itself out at the end.
struct Reader : peel::SpanWaiter {
  LayerCache* cache;
  const Layer* layer;
  uint64_t offset;
  size_t length;
  std::atomic<int>* left;
  std::atomic<int>* errors;
  std::atomic<int> resumed{0};

  void start() { resume(0); }
  void resume(int err) override {
    resumed++;
    if (err == 0) {
      const int next = cache->ensure(offset, length, this);
      if (next == 1) return;
      CHECK(next == 0 || next == -EIO);
      if (next == 0) CHECK(rightAt(*cache, *layer, offset, length));
      err = -next;
    }
    if (err) (*errors)++;
    (*left)--;
  }
};

void waitFor(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(100);
  while (!condition()) {
    CHECK(std::chrono::steady_clock::now() < until);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

TEST(threads_read_decode_fail_and_cancel) {
  const Layer layer = testLayer(400'000, 9'000);
  for (int round = 0; round < 10; round++) {
    CacheDir dir;
    auto cache = dir.open(layer);
    std::atomic<uint64_t> reports{0}, failures{0};
    cache->setMissHandler([&](const uint32_t* spans, size_t n) {
      for (size_t i = 0; i < n; i++) {
        const uint64_t turn = reports++;
        peel::Pool::cpu().submit([&, span = spans[i], turn] {
          if (turn % 7 == 3) {
            failures++;
            cache->fail(span, EIO);
          } else if (turn % 11 == 5) {
            Span broken = layer.spans[span];
            broken.data[broken.data.size() / 2] ^= 1;
            peel::DecodeResult result;
            if (cache->decode(span, inputOf(broken), result) != 0) cache->fail(span, EIO);
          } else {
            CHECK_EQ(put(*cache, layer, span), 0);
            CHECK_EQ(put(*cache, layer, span), 0);
          }
        });
      }
    });
    constexpr int kThreads = 6, kReads = 150;
    std::atomic<int> left{kThreads * kReads}, errors{0}, cancelled{0};
    std::vector<std::unique_ptr<Reader>> readers[kThreads];
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; t++) {
      threads.emplace_back([&, t] {
        check::Random random{static_cast<uint64_t>(round * 100 + t)};
        for (int i = 0; i < kReads; i++) {
          auto reader = std::make_unique<Reader>();
          reader->cache = cache.get();
          reader->layer = &layer;
          reader->length = 1 + random.below(40'000);
          reader->offset = random.below(layer.stream.size() - reader->length);
          reader->left = &left;
          reader->errors = &errors;
          reader->start();
          readers[t].push_back(std::move(reader));
          if (random.below(4) == 0 && cache->cancel(readers[t][random.below(readers[t].size())].get())) {
            cancelled++;
            left--;
          }
        }
      });
    }
    for (auto& thread : threads) thread.join();
    waitFor([&] { return left == 0; });
    // Everything that was asked for is settled: the pool is idle and nothing is reported any more.
    std::atomic<bool> idle{false};
    peel::Pool::cpu().submit([&] { idle = true; });
    waitFor([&] { return idle.load(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    cache->shutdown();
  }
}

TEST(shutdown_with_readers_parked) {
  const Layer layer = testLayer(200'000, 9'000);
  for (int round = 0; round < 50; round++) {
    CacheDir dir;
    auto cache = dir.open(layer);
    std::atomic<int> left{200}, errors{0};
    std::vector<Reader> readers(200);
    std::thread starter([&] {
      for (Reader& reader : readers) {
        reader.cache = cache.get();
        reader.layer = &layer;
        reader.length = 10;
        reader.offset = static_cast<uint64_t>(&reader - readers.data()) * 900;
        reader.left = &left;
        reader.errors = &errors;
        reader.start();
      }
    });
    std::thread decoder([&] {
      for (uint32_t i = 0; i < 5; i++) CHECK_EQ(put(*cache, layer, i), 0);
    });
    std::this_thread::sleep_for(std::chrono::microseconds(round * 50));
    cache->shutdown();
    starter.join();
    decoder.join();
    waitFor([&] { return left == 0; });
  }
}

TEST(processes_fill_read_and_remove) {
  const Layer layer = testLayer(300'000, 9'000);
  CacheDir dir;
  std::vector<pid_t> children;
  const int rounds = static_cast<int>(150 * check::scale());
  for (uint64_t process = 0; process < 4; process++) {
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid != 0) {
      children.push_back(pid);
      continue;
    }
    dir.disown();
    check::Random random{process};
    for (int round = 0; round < rounds; round++) {
      if (random.below(3) == 0) {
        const int err = peel::tryRemoveLayer(dir.layer(), dir.live());
        CHECK(err == 0 || err == -EAGAIN);
        continue;
      }
      auto cache = dir.open(layer);
      for (int i = 0; i < 12; i++) {
        const auto span = static_cast<uint32_t>(random.below(cache->spanCount()));
        if (random.below(2) == 0) {
          CHECK_EQ(put(*cache, layer, span), 0);
        } else if (random.below(3) == 0) {
          // Bad bytes, and bytes cut short that no digest covers: neither may spoil what another process has stored.
          Span broken = layer.spans[span];
          peel::DecodeInput input = inputOf(broken, span + 1 == cache->spanCount());
          if (random.below(2) == 0) {
            broken.data[random.below(broken.data.size())] ^= 1;
          } else {
            input.size /= 2;
            input.sha256 = nullptr;
          }
          peel::DecodeResult result;
          const int err = cache->decode(span, input, result);
          CHECK(err == -EBADMSG || (err == 0 && cache->present(span)));
        } else if (cache->present(span)) {
          CHECK(rightAt(*cache, layer, layer.spans[span].start, layer.spans[span].end - layer.spans[span].start));
        }
      }
      if (random.below(5) == 0) CHECK_EQ(cache->sync(), 0);
    }
    _exit(0);
  }
  for (pid_t pid : children) {
    int status = 0;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
  }
}

TEST(a_killed_decoder_leaves_no_claim) {
  const Layer layer = testLayer();
  CacheDir dir;
  auto cache = dir.open(layer);
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    dir.disown();
    // Killed in the middle of storing span 2.
    auto mine = dir.open(layer);
    peel::SpanClaims claims;
    CHECK_EQ(claims.acquire(mine->dataFd(), 2), 0);
    CHECK_EQ(pwrite(mine->dataFd(), "garbage", 7, static_cast<off_t>(layer.spans[2].start)), 7);
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  CHECK(!cache->present(2));
  CHECK_EQ(put(*cache, layer, 2), 0);
  CHECK(rightAt(*cache, layer, layer.spans[2].start, 1000));
}

TEST_MAIN
