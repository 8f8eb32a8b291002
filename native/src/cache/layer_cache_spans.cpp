// The part of LayerCache that touches the bytes: decode, verify, sync, digest.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <new>
#include <optional>

#include "cache/layer_cache.hpp"
#include "cache/present_file.hpp"
#include "cache/span_sum.hpp"
#include "gzip/sha256.hpp"
#include "sys/file_io.hpp"
#include "sys/finally.hpp"

namespace peel {
namespace {

constexpr int kMaxDecodings = 3;

}  // namespace

// Until what was written is what was decoded: the file may be cut short meanwhile.
int LayerCache::decodeToFile(uint32_t span, const DecodeInput& input, DecodeResult& result, StreamTail* tail, uint64_t& sum) {
  std::optional<StreamTail> before;
  if (tail) before = *tail;
  for (int attempt = 0; attempt < kMaxDecodings; attempt++) {
    if (tail) *tail = *before;
    const uint64_t generation = live_.generation();
    uint64_t at = spanStart(span);
    Xxh64 hash;
    const int err = decodeSpan(
        input, spanSize(span),
        [&](const uint8_t* bytes, size_t length) {
          // A write behind the end of a file that was cut short would make zeros of what is missing.
          int failed = mendLength();
          if (!failed) failed = writeFully(data_.get(), bytes, length, at);
          hash.update(bytes, length);
          if (tail) tail->add(bytes, length);
          at += length;
          return failed;
        },
        result);
    if (err) return err;
    sum = sumOf(hash);
    if (live_.unchanged(generation)) return 0;
    uint64_t written = 0;
    if (int failed = sumOfFile(span, written); failed != -ENODATA && (failed || written == sum)) return failed;
  }
  return -EIO;
}

int LayerCache::sumOfFile(uint32_t span, uint64_t& sum) const {
  Xxh64 hash;
  const int err = readRange(data_.get(), spanStart(span), spanStart(span) + spanSize(span),
                            [&](const uint8_t* bytes, size_t length) { hash.update(bytes, length); });
  sum = sumOf(hash);
  return err;
}

int LayerCache::decode(uint32_t span, const DecodeInput& input, DecodeResult& result, StreamTail* tail) {
  result = DecodeResult{};
  if (span >= spanCount()) return -EINVAL;
  if (input.openEnded && span + 1 != spanCount()) return -EINVAL;
  if (options_.readOnly) return -EROFS;
  try {
    const int err = decodeAlone(span, input, result, tail);
    if (!err) wake(span);
    return err;
  } catch (const std::bad_alloc&) {
    result = DecodeResult{};
    result.failure = SpanFailure::Disk;
    return -ENOMEM;
  }
}

int LayerCache::decodeAlone(uint32_t span, const DecodeInput& input, DecodeResult& result, StreamTail* tail) {
  if (int err = claims_.acquire(data_.get(), span)) return err;
  const Finally release([&] { claims_.release(data_.get(), span); });
  if (live_.test(span)) {
    result.wasPresent = true;
    result.streamBytes = spanSize(span);
    if (input.openEnded) result.trailingZeros = live_.trailingZeros();
    return 0;
  }
  const StreamTail before = tail ? *tail : StreamTail{};
  int err = isReadable(span) ? decodeToDisk(span, input, result, tail) : -EIO;
  if (!err || result.failure != SpanFailure::None) return err;
  result.failure = SpanFailure::Disk;
  // Without the disk it would take more memory still.
  if (err == -ENOMEM || !isAwaited(span)) return err;
  const int refused = err;
  result = DecodeResult{};
  if (tail) *tail = before;
  err = decodeToMemory(span, input, result, tail);
  result.refused = err ? 0 : refused;
  return err;
}

int LayerCache::decodeToDisk(uint32_t span, const DecodeInput& input, DecodeResult& result, StreamTail* tail) {
  // Of an eviction that was killed between the bits and the generation readers do not know yet.
  if (live_.evicting()) live_.nextGeneration();
  const uint64_t failures = syncFailures_.load();
  uint64_t stored = 0;
  int err = decodeToFile(span, input, result, tail, stored);
  if (!err) err = writeFully(sums_.get(), &stored, sizeof stored, uint64_t{span} * sizeof stored);
  if (err) return err;
  if (input.openEnded) live_.setTrailingZeros(result.trailingZeros);
  live_.use(span, span, LiveBits::coarseNow());
  live_.set(span);
  if (syncFailures_.load() != failures) {
    // It may be among what was lost, and its bit be set after those were cleared.
    live_.clear(span);
    live_.nextGeneration();
    return -EIO;
  }
  held_.drop(span);
  HeldSpans::expire();
  return 0;
}

int LayerCache::decodeToMemory(uint32_t span, const DecodeInput& input, DecodeResult& result, StreamTail* tail) {
  const uint64_t size = spanSize(span);
  if (size > HeldSpans::kMostBytes) return -ENOSPC;
  HeldSpans::expire();
  auto held = std::make_shared<std::vector<uint8_t>>();
  try {
    held->reserve(static_cast<size_t>(size));
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  }
  int err = decodeSpan(
      input, size,
      [&](const uint8_t* bytes, size_t length) {
        held->insert(held->end(), bytes, bytes + length);
        if (tail) tail->add(bytes, length);
        return 0;
      },
      result);
  if (err) return err;
  held_.put(span, std::move(held));
  return 0;
}

int LayerCache::tailBefore(uint32_t span, StreamTail& tail) {
  if (span >= spanCount()) return -EINVAL;
  const uint64_t end = spanStart(span);
  const uint64_t from = end - std::min<uint64_t>(end, StreamTail::kMost);
  for (uint32_t at = span; at > 0 && spanStart(at) > from; at--) {
    // What is wrong there would make all that follows wrong.
    if (int err = verify(at - 1)) return err == -EILSEQ ? -ENODATA : err;
  }
  std::array<uint8_t, StreamTail::kMost> bytes;
  if (int err = peek(from, end - from, bytes.data())) return err == -EAGAIN ? -ENODATA : err;
  tail.add(bytes.data(), static_cast<size_t>(end - from));
  return 0;
}

int LayerCache::verify(uint32_t span) {
  if (span >= spanCount()) return -EINVAL;
  for (;;) {
    const uint64_t generation = live_.generation();
    if (!live_.test(span)) return -ENODATA;
    uint64_t expected = 0, found = 0;
    int err = readFully(sums_.get(), &expected, sizeof expected, uint64_t{span} * sizeof expected);
    if (!err) err = sumOfFile(span, found);
    if (err && err != -ENODATA) return err;
    if (!err && expected == found) return 0;
    if (!live_.unchanged(generation)) continue;
    if (!options_.readOnly) {
      live_.clear(span);
      live_.nextGeneration();
    }
    return -EILSEQ;
  }
}

int LayerCache::mendLength() {
  struct stat info{};
  if (::fstat(data_.get(), &info) < 0) return -errno;
  if (static_cast<uint64_t>(info.st_size) >= paddedSize()) return 0;
  if (options_.readOnly) return -EROFS;
  std::lock_guard lock(lengthMutex_);
  for (uint64_t dropped = paddedSize();;) {
    if (::fstat(data_.get(), &info) < 0) return -errno;
    const auto size = static_cast<uint64_t>(info.st_size);
    if (size >= paddedSize()) return 0;
    // Not cut shorter since what was behind its end was dropped, which takes a while.
    if (size >= dropped) return ::ftruncate(data_.get(), static_cast<off_t>(paddedSize())) < 0 ? -errno : 0;
    if (int err = dropBehind(size)) return err;
    dropped = size;
  }
}

// The durable bitmap goes before the length comes back: with it, what is missing would look like bytes. Having none promises nothing.
int LayerCache::dropBehind(uint64_t size) {
  for (uint32_t span = 0; span < spanCount(); span++) {
    if (spanStart(span) + spanSize(span) > size && live_.test(span)) live_.clear(span);
  }
  live_.nextGeneration();
  std::lock_guard lock(syncMutex_);
  const std::string present = options_.dir + "/present";
  if (::unlink(present.c_str()) < 0) return errno == ENOENT ? 0 : -errno;
  return fsyncDirectoryOf(present);
}

int LayerCache::writePresent(BitsMark mark) {
  if (options_.readOnly) return -EROFS;
  // Between the look at the bits and the new bitmap nothing may be evicted: it would come back.
  if (int err = pins_.hold(data_.get())) return err;
  const Finally release([&] { pins_.release(data_.get()); });
  const int err = mark == BitsMark::Complete && !live_.all() ? -ENODATA : writeBits(mark);
  if (!err && mark == BitsMark::Complete) live_.setComplete();
  return err;
}

int LayerCache::writeBits(BitsMark mark) {
  std::lock_guard lock(syncMutex_);
  // Taken before the sync: a bit that is set meanwhile may speak of bytes that are not on the disk yet.
  BitsContent content = live_.snapshot();
  content.complete = content.complete || mark == BitsMark::Complete;
  if (::fdatasync(data_.get()) < 0 || ::fdatasync(sums_.get()) < 0) {
    const int err = -errno;
    dropUnsynced();
    return err;
  }
  return peel::writePresent(options_.dir + "/present", identity_, content);
}

// The kernel says once that it could not write, and forgets what it could not: it reads as it was on the disk before, as soon as memory
// is needed for something else. What the durable bitmap has was written by an earlier sync.
void LayerCache::dropUnsynced() {
  syncFailures_++;
  BitsContent durable;
  if (readPresent(options_.dir + "/present", identity_, durable) != 0) durable.words.clear();
  durable.words.resize((size_t{spanCount()} + 63) / 64);
  for (uint32_t span = 0; span < spanCount(); span++) {
    if (!(durable.words[span / 64] >> (span % 64) & 1) && live_.test(span)) live_.clear(span);
  }
  live_.nextGeneration();
}

int LayerCache::sync() { return writePresent(BitsMark::AsIs); }

int LayerCache::markComplete() { return writePresent(BitsMark::Complete); }

int LayerCache::digest(std::array<uint8_t, 32>& out) {
  if (int err = pins_.hold(data_.get())) return err;
  const Finally release([&] { pins_.release(data_.get()); });
  return live_.all() ? digestData(out) : -ENODATA;
}

int LayerCache::digestData(std::array<uint8_t, 32>& out) {
  Sha256 hash;
  int err = readRange(data_.get(), 0, options_.streamSize,
                      [&](const uint8_t* bytes, size_t length) { hash.update(bytes, length); });
  if (err) return err;
  const std::vector<uint8_t> zeros(kReadBuffer);
  for (uint64_t left = live_.trailingZeros(); left > 0;) {
    size_t n = static_cast<size_t>(std::min<uint64_t>(left, zeros.size()));
    hash.update(zeros.data(), n);
    left -= n;
  }
  out = hash.finish();
  return 0;
}

}  // namespace peel
