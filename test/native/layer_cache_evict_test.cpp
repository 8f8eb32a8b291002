// Spans that go while others read them: no byte is ever wrong, whoever is killed when.
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include "cache_fixture.hpp"
#include "fuse/read_plan.hpp"

using namespace fixture;
using peel::LayerCache;

namespace {

// The call of the system at whose beginning this process kills itself; 0: none.
std::atomic<int> killAt{0};
thread_local bool dawdling = false;
// Called once, in the middle of the next sync.
std::function<void()> inSync;

void step() {
  if (killAt > 0 && --killAt == 0) ::kill(::getpid(), SIGKILL);
}

}  // namespace

// Instead of the library's: what an eviction does to the disk and to locks.
extern "C" {
int fallocate(int fd, int mode, off_t offset, off_t length) {
  step();
  return static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, length));
}
// Nobody cuts the power here, and evictions come much faster without.
int fdatasync(int) {
  step();
  if (auto now = std::exchange(inSync, nullptr)) now();
  return 0;
}
int fsync(int) {
  step();
  return 0;
}
// Some readers dawdle between their look at the bits and the bytes, so that an eviction fits in between.
ssize_t pread(int fd, void* bytes, size_t length, off_t offset) {
  static thread_local unsigned calls = 0;
  if (dawdling && ++calls % 8 == 0) ::usleep(3000);
  return ::syscall(SYS_pread64, fd, bytes, length, offset);
}
int flock(int fd, int operation) noexcept {
  step();
  return static_cast<int>(::syscall(SYS_flock, fd, operation));
}
int rename(const char* from, const char* to) noexcept {
  step();
  return static_cast<int>(::syscall(SYS_rename, from, to));
}
ssize_t pwrite(int fd, const void* bytes, size_t length, off_t offset) {
  step();
  return ::syscall(SYS_pwrite64, fd, bytes, length, offset);
}
int fcntl(int fd, int command, ...) {
  step();
  va_list args;
  va_start(args, command);
  void* arg = va_arg(args, void*);
  va_end(args);
  return static_cast<int>(::syscall(SYS_fcntl, fd, command, arg));
}
}

namespace {

std::vector<uint32_t> range(uint32_t first, uint32_t end) {
  std::vector<uint32_t> spans;
  for (uint32_t span = first; span < end; span++) spans.push_back(span);
  return spans;
}

uint64_t bytesOnDisk(const LayerCache& cache) {
  struct stat info;
  CHECK_EQ(::fstat(cache.dataFd(), &info), 0);
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

bool spanRight(const LayerCache& cache, const Layer& layer, uint32_t span) {
  return rightAt(cache, layer, layer.spans[span].start, layer.spans[span].end - layer.spans[span].start);
}

void allPresentRight(const LayerCache& cache, const Layer& layer) {
  for (uint32_t span = 0; span < cache.spanCount(); span++) CHECK(!cache.present(span) || spanRight(cache, layer, span));
}

uint32_t evict(LayerCache& cache, const std::vector<uint32_t>& spans) {
  LayerCache::Evicted evicted;
  CHECK_EQ(cache.evict(spans, evicted), 0);
  return evicted.spans;
}

pid_t forked(const std::function<void()>& body) {
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid != 0) return pid;
  body();
  _exit(0);
}

int statusOf(pid_t pid) {
  int status = 0;
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  return status;
}

// One read as FUSE makes it, and one as JavaScript does; both bring what is missing.
void readRight(LayerCache& cache, const std::shared_ptr<LayerCache>& held, const Layer& layer, check::Random& random) {
  Bytes bytes(1 + random.below(30'000));
  const uint64_t offset = random.below(layer.stream.size() - bytes.size());
  const auto bring = [&] {
    for (uint32_t span = cache.spanAt(offset); span <= cache.spanAt(offset + bytes.size() - 1); span++) {
      CHECK_EQ(put(cache, layer, span), 0);
    }
  };
  if (random.below(2) == 0) {
    int err = 0;
    while ((err = cache.read(offset, bytes.size(), bytes.data())) == -EAGAIN) bring();
    CHECK_EQ(err, 0);
  } else {
    peel::fuse::ReadPlan plan;
    plan.size = static_cast<uint32_t>(bytes.size());
    plan.segments.push_back({0, plan.size, held, offset, nullptr});
    for (bool done = false; !done;) {
      plan.segments[0].generation = cache.generation();
      if (!cache.covered(offset, bytes.size())) {
        bring();
        continue;
      }
      CHECK_EQ(peel::fuse::collect(plan, bytes.data()), 0);
      done = peel::fuse::isCurrent(plan);
    }
  }
  CHECK(std::memcmp(bytes.data(), layer.stream.data() + offset, bytes.size()) == 0);
}

// What holds after an evictor was killed, for who had the layer open and for who opens it after a power cut. Of decoders that were killed, of
// which there were `decoders` since the last power cut, each may have left the blocks of one span, which are no more than the span once it comes.
void isWholeAfterKill(CacheDir& dir, std::shared_ptr<LayerCache>& cache, const Layer& layer, check::Random& random,
                      uint32_t& decoders) {
  allPresentRight(*cache, layer);
  for (int i = 0; i < 5; i++) readRight(*cache, cache, layer, random);
  if (random.below(2) == 0) {
    cache.reset();
    dir.reboot();
    cache = dir.open(layer);
    allPresentRight(*cache, layer);
    decoders = 0;
  }
  // Nothing is held, and what was left lying is found.
  evict(*cache, {0});
  uint64_t present = 0, largest = 0;
  for (uint32_t span = 0; span < cache->spanCount(); span++) {
    const uint64_t blocks = cache->spanSize(span) + 8192;
    present += cache->present(span) ? blocks : 0;
    largest = std::max(largest, blocks);
  }
  CHECK(bytesOnDisk(*cache) <= present + decoders * largest);
}

}  // namespace

TEST(evicts_spans_and_gives_their_blocks_back) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer);
  putAll(*cache, layer);
  const uint32_t last = cache->spanCount() - 1;
  const uint64_t before = bytesOnDisk(*cache);
  LayerCache::Evicted evicted;
  CHECK_EQ(cache->evict({5, 2, 3, 2, last}, evicted), 0);
  CHECK_EQ(evicted.spans, 4u);
  CHECK_EQ(before - bytesOnDisk(*cache), evicted.bytes);
  CHECK(evicted.bytes > 3 * 32'000);
  for (uint32_t span = 0; span <= last; span++) {
    const bool gone = span == 2 || span == 3 || span == 5 || span == last;
    CHECK_EQ(cache->present(span), !gone);
    CHECK_EQ(cache->lastUsed()[span] == 0, gone);
    CHECK(gone || (spanRight(*cache, layer, span) && cache->verify(span) == 0));
  }
  Bytes byte(1);
  CHECK_EQ(cache->read(layer.spans[2].start, 1, byte.data()), -EAGAIN);
  std::array<uint8_t, 32> digest;
  CHECK_EQ(cache->digest(digest), -ENODATA);
  CHECK_EQ(evict(*cache, {2, 3}), 0u);
  CHECK_EQ(put(*cache, layer, 3), 0);
  CHECK(spanRight(*cache, layer, 3));
  CHECK_EQ(cache->verify(3), 0);
  CHECK_EQ(cache->evict({last + 1}, evicted), -EINVAL);
  // What is durable knows nothing of them either.
  cache.reset();
  dir.reboot();
  cache = dir.open(layer);
  CHECK(!cache->present(2) && !cache->present(5) && !cache->present(last) && cache->present(4));
  allPresentRight(*cache, layer);
  evict(*cache, range(0, last + 1));
  CHECK_EQ(bytesOnDisk(*cache), 0u);
}

TEST(evicts_nothing_of_a_layer_that_is_complete_or_pinned) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer), other = dir.open(layer);
  putAll(*cache, layer);
  {
    std::shared_ptr<const void> pin, again;
    CHECK_EQ(cache->pin(pin), 0);
    CHECK_EQ(cache->pin(again), 0);
    pin.reset();
    CHECK_EQ(evict(*cache, {1}), 0u);
    CHECK_EQ(evict(*other, {1}), 0u);
    CHECK_EQ(cache->sync(), 0);
    CHECK_EQ(evict(*other, {1}), 0u);
  }
  peel::Fd kernels;
  CHECK_EQ(cache->openPinned(kernels), 0);
  CHECK_EQ(evict(*other, {1}), 0u);
  kernels.reset();
  CHECK_EQ(evict(*other, {1}), 1u);
  CHECK_EQ(cache->markComplete(), -ENODATA);
  CHECK_EQ(put(*cache, layer, 1), 0);
  CHECK_EQ(cache->markComplete(), 0);
  CHECK_EQ(evict(*other, {1}), 0u);
  CHECK(cache->present(1));
  LayerCache::Options options = dir.options(layer);
  options.readOnly = true;
  std::shared_ptr<LayerCache> reader;
  CHECK_EQ(LayerCache::open(options, reader), 0);
  LayerCache::Evicted evicted;
  CHECK_EQ(reader->evict({1}, evicted), -EROFS);
}

TEST(a_sync_brings_nothing_back) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer), other = dir.open(layer);
  putAll(*cache, layer);
  inSync = [&] { evict(*other, {1}); };
  CHECK_EQ(cache->sync(), 0);
  CHECK(!inSync);
  const bool stayed = cache->present(1);
  cache.reset();
  other.reset();
  dir.reboot();
  CHECK_EQ(dir.open(layer)->present(1), stayed);
  allPresentRight(*dir.open(layer), layer);
}

TEST(last_use_is_shared) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer), other = dir.open(layer);
  CHECK_EQ(put(*cache, layer, 1), 0);
  CHECK_EQ(put(*cache, layer, 2), 0);
  const uint32_t came = other->lastUsed()[1];
  CHECK(came > 0 && came <= peel::LiveBits::coarseNow());
  while (peel::LiveBits::coarseNow() <= came + 1) ::usleep(10'000);
  Bytes byte(1);
  CHECK_EQ(cache->read(layer.spans[1].start, 1, byte.data()), 0);
  CHECK(other->lastUsed()[1] > came);
  CHECK_EQ(other->lastUsed()[0], 0u);
  CHECK(other->lastUsed()[2] <= came + 1);
}

TEST(older_processes_keep_their_spans) {
  CacheDir dir;
  const Layer layer = testLayer();
  dir.open(layer).reset();
  // The live file as version 1 has it, and somebody who uses the layer.
  const auto toVersion1 = [&] {
    peel::Fd fd(::open(dir.live().c_str(), O_RDWR));
    const uint32_t version = 1;
    CHECK_EQ(::pwrite(fd.get(), &version, sizeof version, 8), 4);
    CHECK_EQ(::ftruncate(fd.get(), 256 + 8), 0);
  };
  toVersion1();
  peel::LayerLock older;
  CHECK_EQ(older.takeShared(dir.layer()), 0);
  struct stat before, after;
  CHECK_EQ(::stat(dir.live().c_str(), &before), 0);
  auto cache = dir.open(layer);
  CHECK_EQ(put(*cache, layer, 1), 0);
  CHECK_EQ(::stat(dir.live().c_str(), &after), 0);
  CHECK(before.st_ino == after.st_ino && after.st_size == 256 + 8);
  CHECK_EQ(evict(*cache, {1}), 0u);
  CHECK(cache->present(1) && cache->lastUsed()[1] > 0);
  cache->sync();
  cache.reset();
  older.drop();
  cache = dir.open(layer);
  CHECK(cache->present(1));
  CHECK_EQ(evict(*cache, {1}), 1u);
  // An older process that comes now makes a file of its own.
  CHECK_EQ(put(*cache, layer, 2), 0);
  dir.reboot();
  CHECK_EQ(evict(*cache, {2}), 0u);
  CHECK(cache->present(2));
}

TEST(a_read_that_an_eviction_overtook_does_not_count) {
  CacheDir dir;
  const Layer layer = testLayer();
  auto cache = dir.open(layer), other = dir.open(layer);
  putAll(*cache, layer);
  peel::fuse::ReadPlan plan;
  plan.size = 1000;
  plan.segments.push_back({0, plan.size, cache, layer.spans[3].start + 5000, nullptr});
  plan.segments[0].generation = cache->generation();
  CHECK(cache->covered(layer.spans[3].start + 5000, 1000));
  Bytes bytes(1000);
  CHECK_EQ(peel::fuse::collect(plan, bytes.data()), 0);
  CHECK(peel::fuse::isCurrent(plan));
  CHECK_EQ(evict(*other, {3}), 1u);
  CHECK_EQ(peel::fuse::collect(plan, bytes.data()), 0);
  CHECK(bytes == Bytes(1000));
  CHECK(!peel::fuse::isCurrent(plan));
}

TEST(readers_check_every_byte_while_spans_go) {
  const Layer layer = testLayer(400'000, 9'000);
  CacheDir dir;
  const auto enough = static_cast<uint32_t>(2000 * check::scale());
  const auto work = [&](uint64_t seed) {
    std::vector<std::shared_ptr<LayerCache>> caches{dir.open(layer), dir.open(layer)};
    std::atomic<bool> done{false};
    std::atomic<uint32_t> evicted{0};
    std::thread evictor([&] {
      check::Random random{seed + 100};
      while (!done) {
        const auto first = static_cast<uint32_t>(random.below(caches[0]->spanCount()));
        evicted += evict(*caches[random.below(2)], range(first, std::min<uint32_t>(first + 8, caches[0]->spanCount())));
        ::usleep(300);
      }
    });
    std::thread syncer([&] {
      while (!done) {
        CHECK_EQ(caches[1]->sync(), 0);
        ::usleep(5000);
      }
    });
    std::vector<std::thread> readers;
    for (uint64_t i = 0; i < 4; i++) {
      readers.emplace_back([&, i] {
        check::Random random{seed + i};
        dawdling = true;
        const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(100);
        while (evicted < enough && std::chrono::steady_clock::now() < until) readRight(*caches[i % 2], caches[i % 2], layer, random);
      });
    }
    for (std::thread& reader : readers) reader.join();
    done = true;
    evictor.join();
    syncer.join();
    CHECK(evicted >= enough);
  };
  const pid_t child = forked([&] {
    dir.disown();
    work(1000);
  });
  work(2000);
  CHECK_EQ(statusOf(child), 0);
  auto cache = dir.open(layer);
  allPresentRight(*cache, layer);
  CHECK_EQ(cache->sync(), 0);
  cache.reset();
  dir.reboot();
  allPresentRight(*dir.open(layer), layer);
}

TEST(an_evictor_is_killed_at_every_step) {
  const Layer layer = testLayer(250'000, 9'000);
  CacheDir dir;
  auto cache = dir.open(layer);
  check::Random random{7};
  uint32_t decoders = 0;
  int at = 1;
  for (bool killed = true; killed; at++) {
    putAll(*cache, layer);
    CHECK_EQ(cache->sync(), 0);
    const int status = statusOf(forked([&] {
      dir.disown();
      auto mine = dir.open(layer);
      killAt = at;
      evict(*mine, {1, 2, 3, 6});
      killAt = 0;
    }));
    killed = WIFSIGNALED(status);
    CHECK(killed ? WTERMSIG(status) == SIGKILL : status == 0);
    isWholeAfterKill(dir, cache, layer, random, decoders);
    CHECK_EQ(decoders, 0u);
  }
  // Two locks, four claims and their ends, two syncs, the bitmap with its directory, two holes, their checksums.
  CHECK(at > 18);
}

TEST(evictors_and_decoders_are_killed_at_any_time) {
  const Layer layer = testLayer(250'000, 9'000);
  CacheDir dir;
  auto cache = dir.open(layer);
  check::Random random{11};
  uint32_t decoders = 0;
  const int rounds = static_cast<int>(60 * check::scale());
  for (int round = 0; round < rounds; round++) {
    const pid_t pid = forked([&] {
      dir.disown();
      auto mine = dir.open(layer);
      for (;;) {
        putAll(*mine, layer);
        evict(*mine, {1, 2, 3, 6});
      }
    });
    ::usleep(static_cast<useconds_t>(random.below(20'000)));
    ::kill(pid, SIGKILL);
    statusOf(pid);
    decoders++;
    isWholeAfterKill(dir, cache, layer, random, decoders);
  }
}

TEST_MAIN
