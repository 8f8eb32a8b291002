#include "cache/layer_cache.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "cache/present_file.hpp"
#include "sys/clock.hpp"
#include "sys/file_io.hpp"

namespace peel {
namespace {

constexpr uint64_t kMaxStreamSize = std::numeric_limits<int64_t>::max() - 4096;
constexpr size_t kMaxSpans = size_t{1} << 28;
// Writing a block again often makes it readable again.
constexpr uint32_t kMostReadFailures = 2;

}  // namespace

bool LayerCache::isSpanTable(const Options& options) {
  const auto& starts = options.spanStarts;
  if (starts.size() < 2 || starts.size() > kMaxSpans || starts.front() != 0 || starts.back() != options.streamSize) {
    return false;
  }
  if (options.streamSize > kMaxStreamSize) return false;
  for (size_t i = 0; i + 2 < starts.size(); i++) {
    if (starts[i] >= starts[i + 1]) return false;
  }
  return starts[starts.size() - 2] <= starts.back();
}

int LayerCache::open(const Options& options, std::shared_ptr<LayerCache>& out) {
  if (!isSpanTable(options)) return -EINVAL;
  if (!options.readOnly && LiveBits::ofOlderVersion(options.livePath)) {
    // Nobody uses the layer: what is not durable is lost, and the layer can be evicted from again.
    LayerLock alone;
    if (alone.tryExclusive(options.dir) == 0 && ::unlink(options.livePath.c_str()) < 0 && errno != ENOENT) return -errno;
  }
  std::shared_ptr<LayerCache> cache(new LayerCache(options));
  if (int err = cache->lock_.takeShared(options.dir)) return err;
  if (int err = cache->lock_.beginLayout()) return err;
  int err = cache->openFiles();
  cache->lock_.endLayout();
  if (!err) out = std::move(cache);
  return err;
}

LayerCache::~LayerCache() { shutdown(); }

int LayerCache::openFiles() {
  const std::string present = options_.dir + "/present";
  BitsContent content;
  if (int err = openData()) return err;
  const int durable = readPresent(present, identity_, content);
  if (durable == -EPROTONOSUPPORT) return durable;
  const bool foreign = durable == -ESTALE || LiveBits::ofAnotherIndex(options_.livePath, identity_);
  // Others may have it open and be serving what is left of it.
  const bool resized = dataSize_ != paddedSize() && (durable == 0 || LiveBits::isOf(options_.livePath, identity_));
  if ((dataSize_ != paddedSize() && !resized) || foreign) {
    // New, cut short, replaced or of another index: nothing in it counts, and no bitmap may say so later. Another
    // process may still be reading the old files, so they are left to it and new ones are made.
    if (options_.readOnly) return -ESTALE;
    for (const std::string& path : {present, options_.livePath, options_.dir + "/data", options_.dir + "/sums"}) {
      if (::unlink(path.c_str()) < 0 && errno != ENOENT) return -errno;
    }
    content = BitsContent{};
    if (int err = openData()) return err;
    if (::ftruncate(data_.get(), static_cast<off_t>(paddedSize())) < 0) return -errno;
  }
  const int access = options_.readOnly ? O_RDONLY : O_RDWR | O_CREAT;
  sums_.reset(::open((options_.dir + "/sums").c_str(), access | O_CLOEXEC, 0600));
  if (!sums_.valid()) return -errno;
  if (int err = live_.open(options_.livePath, identity_, [&] { return content; })) return err;
  if (!resized || options_.readOnly) return 0;
  if (int err = mendLength()) return err;
  return ::ftruncate(data_.get(), static_cast<off_t>(paddedSize())) < 0 ? -errno : 0;
}

int LayerCache::inspect(const Options& options, Inspection& out) {
  if (!isSpanTable(options)) return -EINVAL;
  out = {};
  out.expectedSize = paddedSize(options);
  Fd data(::open((options.dir + "/data").c_str(), O_RDONLY | O_CLOEXEC));
  if (!data.valid()) {
    out.data = -errno;
    return out.data == -ENOENT ? 0 : out.data;
  }
  BitsIdentity identity;
  if (int err = identify(data.get(), options, identity, out.dataSize)) return err;
  BitsContent content;
  out.present = readPresent(options.dir + "/present", identity, content);
  struct stat sums{};
  if (::stat((options.dir + "/sums").c_str(), &sums) == 0) out.sumsSize = static_cast<uint64_t>(sums.st_size);
  out.liveIsForeign = LiveBits::ofAnotherIndex(options.livePath, identity);
  return 0;
}

int LayerCache::openData() {
  const int access = options_.readOnly ? O_RDONLY : O_RDWR | O_CREAT;
  data_.reset(::open((options_.dir + "/data").c_str(), access | O_CLOEXEC, 0600));
  if (!data_.valid()) return -errno;
  return identify(data_.get(), options_, identity_, dataSize_);
}

int LayerCache::identify(int dataFd, const Options& options, BitsIdentity& identity, uint64_t& size) {
  struct statx info{};
  if (::statx(dataFd, "", AT_EMPTY_PATH, STATX_INO | STATX_SIZE | STATX_BTIME, &info) < 0) return -errno;
  size = info.stx_size;
  identity = {static_cast<uint32_t>(options.spanStarts.size() - 1), options.streamSize, options.fingerprint, info.stx_ino,
              static_cast<uint64_t>(info.stx_btime.tv_sec) * 1'000'000'000u + info.stx_btime.tv_nsec};
  return 0;
}

bool LayerCache::present(uint32_t span) const { return span < spanCount() && live_.test(span); }
uint32_t LayerCache::presentCount() const { return live_.count(); }
bool LayerCache::complete() const { return live_.complete(); }
bool LayerCache::mending() const { return live_.mending(); }
uint64_t LayerCache::trailingZeros() const { return live_.trailingZeros(); }

uint64_t LayerCache::presentBytes() const {
  uint64_t bytes = 0;
  for (uint32_t span = 0; span < spanCount(); span++) {
    if (live_.test(span)) bytes += spanSize(span);
  }
  return bytes;
}

uint32_t LayerCache::spanAt(uint64_t offset) const {
  auto after = std::upper_bound(options_.spanStarts.begin(), options_.spanStarts.end() - 1, offset);
  return static_cast<uint32_t>(after - options_.spanStarts.begin() - 1);
}

bool LayerCache::rangeOf(uint64_t off, uint64_t len, uint32_t& first, uint32_t& last) const {
  if (len == 0 || off >= options_.streamSize) return false;
  const uint64_t end = len > options_.streamSize - off ? options_.streamSize : off + len;
  first = spanAt(off);
  last = spanAt(end - 1);
  return true;
}

bool LayerCache::covered(uint64_t off, uint64_t len) const {
  uint32_t first, last;
  return !rangeOf(off, len, first, last) || allHere(first, last);
}

bool LayerCache::allPresent(uint32_t first, uint32_t last) const {
  for (uint32_t span = first; span <= last; span++) {
    if (!live_.test(span)) return false;
  }
  return true;
}

bool LayerCache::allHere(uint32_t first, uint32_t last) const {
  for (uint32_t span = first; span <= last; span++) {
    if (!isHere(span)) return false;
  }
  return true;
}

int LayerCache::ensure(uint64_t off, uint64_t len, SpanWaiter* waiter) noexcept {
  if (shut_.load(std::memory_order_acquire)) return -EIO;
  uint32_t first, last;
  if (!rangeOf(off, len, first, last)) return 0;
  checkUnused(first, last);
  use(first, last);
  if (allHere(first, last)) return 0;
  std::vector<uint32_t> missing, fresh;
  std::shared_ptr<MissHandler> handler;
  {
    std::lock_guard lock(mutex_);
    if (shut_.load(std::memory_order_relaxed)) return -EIO;
    // Looked at again under the mutex: finish() sets the bit before it takes the mutex to collect the waiters.
    for (uint32_t span = first; span <= last; span++) {
      if (!isHere(span)) missing.push_back(span);
    }
    if (missing.empty()) return 0;
    for (uint32_t span : missing) {
      if (asked_.insert(span).second) fresh.push_back(span);
    }
    waits_.park({waiter, off, len, monotonicNs()}, std::move(missing));
    handler = missHandler_;
  }
  if (handler && !fresh.empty()) (*handler)(fresh.data(), fresh.size());
  return 1;
}

int LayerCache::read(uint64_t off, uint64_t len, uint8_t* to) {
  uint32_t first, last;
  if (rangeOf(off, len, first, last)) {
    checkUnused(first, last);
    use(first, last);
  }
  const int err = peek(off, len, to);
  // Whoever reads waits again then, and gets them from elsewhere.
  return err && err != -EAGAIN && distrust(off, len) ? -EAGAIN : err;
}

int LayerCache::peek(uint64_t off, uint64_t len, uint8_t* to) {
  uint32_t first, last;
  if (!rangeOf(off, len, first, last)) return 0;
  for (;;) {
    const uint64_t generation = live_.generation();
    if (!allHere(first, last)) return -EAGAIN;
    const int err = copy(off, len, to);
    if (err == -ENODATA && mendLength() == 0 && !live_.unchanged(generation)) continue;
    if (err) return err;
    if (live_.unchanged(generation)) return 0;
  }
}

int LayerCache::copy(uint64_t off, uint64_t len, uint8_t* to) const {
  uint32_t first, last;
  if (held_.empty() || !rangeOf(off, len, first, last)) return readFully(data_.get(), to, len, off);
  const uint64_t end = off + len;
  uint64_t at = off;
  for (uint32_t span = first; span <= last; span++) {
    if (live_.test(span)) continue;
    const HeldSpans::Bytes held = held_.get(span);
    if (!held) continue;
    const uint64_t start = spanStart(span);
    const uint64_t from = std::max(start, off);
    const uint64_t until = std::min(start + held->size(), end);
    if (from > at) {
      if (int err = readFully(data_.get(), to + (at - off), from - at, at)) return err;
    }
    std::memcpy(to + (from - off), held->data() + (from - start), until - from);
    at = until;
  }
  return at < end ? readFully(data_.get(), to + (at - off), end - at, at) : 0;
}

bool LayerCache::distrust(uint64_t off, uint64_t len) {
  uint32_t first, last;
  if (options_.readOnly || !rangeOf(off, len, first, last)) return false;
  (void)mendLength();
  {
    std::lock_guard lock(mutex_);
    // Nobody would bring them again.
    if (shut_.load(std::memory_order_relaxed)) return false;
    for (uint32_t span = first; span <= last; span++) {
      if (live_.test(span)) readFailures_[span]++;
    }
  }
  for (uint32_t span = first; span <= last; span++) live_.clear(span);
  live_.nextGeneration();
  return true;
}

bool LayerCache::isAwaited(uint32_t span) {
  std::lock_guard lock(mutex_);
  return waits_.any(span);
}

bool LayerCache::isReadable(uint32_t span) {
  std::lock_guard lock(mutex_);
  const auto found = readFailures_.find(span);
  return found == readFailures_.end() || found->second < kMostReadFailures;
}

void LayerCache::checkUnused(uint32_t first, uint32_t last) {
  for (uint32_t span = first; span <= last; span++) {
    // A disk that fails is for the read to tell.
    if (live_.lastUsed(span) == 0 && live_.test(span)) verify(span);
  }
}

void LayerCache::use(uint32_t first, uint32_t last) {
  log_->touch(first, last);
  live_.use(first, last, LiveBits::coarseNow());
}

bool LayerCache::cancel(SpanWaiter* waiter) {
  std::optional<ParkedRead> read;
  {
    std::lock_guard lock(mutex_);
    read = waits_.cancel(waiter);
  }
  if (read) recordStall(*read, EINTR);
  return read.has_value();
}

void LayerCache::setMissHandler(MissHandler handler) {
  std::vector<uint32_t> pending;
  std::shared_ptr<MissHandler> shared;
  if (handler) shared = std::make_shared<MissHandler>(std::move(handler));
  {
    std::lock_guard lock(mutex_);
    if (shut_.load(std::memory_order_relaxed)) return;
    missHandler_ = shared;
    pending.assign(asked_.begin(), asked_.end());
  }
  if (shared && !pending.empty()) {
    std::sort(pending.begin(), pending.end());
    (*shared)(pending.data(), pending.size());
  }
}

void LayerCache::recordStall(const ParkedRead& read, int err) {
  log_->stall({read.offset, read.length, read.since, monotonicNs(), err});
}

void LayerCache::resumeAll(const std::vector<ParkedRead>& reads, int err) {
  for (const ParkedRead& read : reads) {
    recordStall(read, err);
    read.waiter->resume(err);
  }
}

void LayerCache::wake(uint32_t span) noexcept {
  std::vector<ParkedRead> ready;
  {
    std::lock_guard lock(mutex_);
    asked_.erase(span);
    ready = waits_.done(span);
  }
  resumeAll(ready, 0);
}

bool LayerCache::settle(uint32_t span) noexcept {
  if (!present(span)) return false;
  wake(span);
  return true;
}

void LayerCache::fail(uint32_t span, int err) noexcept {
  std::vector<ParkedRead> reads;
  {
    std::lock_guard lock(mutex_);
    asked_.erase(span);
    reads = waits_.failed(span);
  }
  resumeAll(reads, err);
}

void LayerCache::shutdown() {
  std::vector<ParkedRead> reads;
  {
    std::lock_guard lock(mutex_);
    shut_.store(true, std::memory_order_release);
    missHandler_.reset();
    asked_.clear();
    reads = waits_.takeAll();
  }
  resumeAll(reads, EIO);
  held_.clear();
}

}  // namespace peel
