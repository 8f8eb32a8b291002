// Taking spans out of a cache that others read.
//
// Claims on the spans, so that nobody decodes them meanwhile -> their bits -> the generation -> the durable bitmap -> their
// bytes. Killed anywhere in between, no bit speaks of bytes that are gone; what was not punched yet is by the next eviction.
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "cache/layer_cache.hpp"
#include "sys/file_io.hpp"
#include "sys/finally.hpp"

namespace peel {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

int punch(int fd, uint64_t from, uint64_t to) {
  while (::fallocate(fd, kPunch, static_cast<off_t>(from), static_cast<off_t>(to - from)) < 0) {
    if (errno != EINTR) return -errno;
  }
  return 0;
}

void sortUnique(std::vector<uint32_t>& spans) {
  std::sort(spans.begin(), spans.end());
  spans.erase(std::unique(spans.begin(), spans.end()), spans.end());
}

// each(first, last) for every run of neighbours in ascending spans, until one is not 0.
template <class Each>
int forRuns(const std::vector<uint32_t>& spans, Each each) {
  for (size_t i = 0; i < spans.size();) {
    size_t next = i + 1;
    while (next < spans.size() && spans[next] == spans[next - 1] + 1) next++;
    if (int err = each(spans[i], spans[next - 1])) return err;
    i = next;
  }
  return 0;
}

}  // namespace

int LayerCache::evict(std::vector<uint32_t> spans, Evicted& out) {
  out = {};
  if (options_.readOnly) return -EROFS;
  sortUnique(spans);
  if (!spans.empty() && spans.back() >= spanCount()) return -EINVAL;
  Fd alone;
  const int err = openLocked(options_.dir + "/data", data_.get(), DataLock::Exclusive, alone);
  if (err == -EAGAIN || err == -ESTALE || err == -ENOENT) return 0;
  if (err) return err;
  // An older process that opens the layer takes its bits from the durable bitmap: not while that one changes.
  if (int failed = lock_.beginLayout()) return failed;
  const Finally end([&] { lock_.endLayout(); });
  return live_.evictable(options_.livePath) && !live_.complete() && !live_.mending() ? evictAlone(spans, out) : 0;
}

int LayerCache::evictAlone(const std::vector<uint32_t>& spans, Evicted& out) {
  // Where holes cannot be punched no bit is lost for it.
  const uint64_t end = (paddedSize() + kBlock - 1) / kBlock * kBlock;
  if (int err = punch(data_.get(), end, end + kBlock)) return err;
  std::vector<uint32_t> claimed = spans;
  if (!live_.trimmed()) {
    // What an eviction or a decode left that was killed.
    for (uint32_t span = 0; span < spanCount(); span++) {
      if (!live_.test(span)) claimed.push_back(span);
    }
    sortUnique(claimed);
  }
  size_t count = 0;
  const Finally release([&] {
    for (size_t i = 0; i < count; i++) claims_.release(data_.get(), claimed[i]);
  });
  int err = 0;
  while (!err && count < claimed.size()) {
    err = claims_.acquire(data_.get(), claimed[count]);
    if (!err) count++;
  }
  if (!err) {
    live_.beginEviction();
    err = evictClaimed(spans, claimed, out);
    if (!err) live_.endEviction();
  }
  return err;
}

int LayerCache::evictClaimed(const std::vector<uint32_t>& spans, const std::vector<uint32_t>& claimed, Evicted& out) {
  std::vector<uint32_t> evicted;
  for (uint32_t span : spans) {
    if (!live_.test(span)) continue;
    live_.clear(span);
    evicted.push_back(span);
  }
  live_.nextGeneration();
  const std::string present = options_.dir + "/present";
  int err = evicted.empty() ? 0 : writeBits(BitsMark::AsIs);
  const bool full = err == -ENOSPC || err == -EDQUOT;
  if (full) {
    // On a full disk there is no room for a new bitmap; having none promises nothing.
    err = ::unlink(present.c_str()) < 0 && errno != ENOENT ? -errno : fsyncDirectoryOf(present);
  }
  if (err) return err;
  // Those that another process brought before they were claimed stay.
  std::vector<uint32_t> gone = claimed;
  std::erase_if(gone, [&](uint32_t span) { return live_.test(span); });
  err = forRuns(gone, [&](uint32_t first, uint32_t last) {
    const auto [from, to] = wholeBlocks(first, last);
    return from < to ? punch(data_.get(), from, to) : 0;
  });
  if (!err) {
    err = forRuns(evicted, [&](uint32_t first, uint32_t last) {
      const auto [from, to] = wholeBlocks(first, last);
      if (from < to) out.bytes += to - from;
      const std::vector<uint64_t> none(last - first + 1);
      return writeFully(sums_.get(), none.data(), none.size() * sizeof none[0], uint64_t{first} * sizeof none[0]);
    });
  }
  out.spans = static_cast<uint32_t>(evicted.size());
  // Failing costs spans after a power cut, no more.
  if (full) writeBits(BitsMark::AsIs);
  return err;
}

std::pair<uint64_t, uint64_t> LayerCache::wholeBlocks(uint32_t first, uint32_t last) const {
  // Behind the last span there is padding only.
  const uint64_t end = last + 1 == spanCount() ? paddedSize() + kBlock - 1 : spanStart(last) + spanSize(last);
  return {(spanStart(first) + kBlock - 1) / kBlock * kBlock, end / kBlock * kBlock};
}

std::vector<uint32_t> LayerCache::lastUsed() const {
  std::vector<uint32_t> stamps(spanCount());
  for (uint32_t span = 0; span < spanCount(); span++) {
    if (live_.test(span)) stamps[span] = std::max(live_.lastUsed(span), 1u);
  }
  return stamps;
}

int LayerCache::pin(std::shared_ptr<const void>& out) {
  if (int err = pins_.hold(data_.get())) return err;
  out = std::shared_ptr<const void>(this, [self = shared_from_this()](const void*) { self->pins_.release(self->data_.get()); });
  return 0;
}

int LayerCache::openPinned(Fd& out) const { return openLocked(options_.dir + "/data", data_.get(), DataLock::Shared, out); }

}  // namespace peel
