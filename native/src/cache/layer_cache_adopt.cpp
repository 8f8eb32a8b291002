// A layer that was downloaded whole becomes a cached one.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "cache/layer_cache.hpp"
#include "cache/present_file.hpp"
#include "cache/span_sum.hpp"

namespace peel {
namespace {

int sumSpans(int dataFd, const std::vector<uint64_t>& starts, int sumsFd) {
  std::vector<uint64_t> sums;
  for (size_t span = 0; span + 1 < starts.size(); span++) {
    Xxh64 sum;
    int err = readRange(dataFd, starts[span], starts[span + 1],
                        [&](const uint8_t* bytes, size_t length) { sum.update(bytes, length); });
    if (err) return err;
    sums.push_back(sumOf(sum));
  }
  return writeFully(sumsFd, sums.data(), sums.size() * sizeof(uint64_t), 0);
}

}  // namespace

int LayerCache::adopt(const Options& options, const std::string& stream, bool complete) {
  if (!isSpanTable(options)) return -EINVAL;
  const std::string sumsPath = options.dir + "/sums", sumsNext = stream + ".sums", present = options.dir + "/present";
  Fd data(::open(stream.c_str(), O_RDWR | O_CLOEXEC));
  if (!data.valid()) return -errno;
  BitsIdentity identity;
  uint64_t size = 0;
  if (int err = identify(data.get(), options, identity, size)) return err;
  // Padded already: by a try that found the layer in use.
  if (size != options.streamSize && size != paddedSize(options)) return -EINVAL;
  Fd sums(::open(sumsNext.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!sums.valid()) return -errno;

  // Everything slow comes before the lock.
  int err = sumSpans(data.get(), options.spanStarts, sums.get());
  if (!err && ::ftruncate(data.get(), static_cast<off_t>(paddedSize(options))) < 0) err = -errno;
  if (!err && (::fdatasync(data.get()) < 0 || ::fdatasync(sums.get()) < 0)) err = -errno;
  LayerLock lock;
  if (!err) err = lock.tryExclusive(options.dir);
  // The bits of the old bytes go before the bytes do.
  if (!err && ::unlink(options.livePath.c_str()) < 0 && errno != ENOENT) err = -errno;
  if (!err && ::unlink(present.c_str()) < 0 && errno != ENOENT) err = -errno;
  if (!err && ::rename(sumsNext.c_str(), sumsPath.c_str()) < 0) err = -errno;
  if (!err && ::rename(stream.c_str(), (options.dir + "/data").c_str()) < 0) err = -errno;
  if (err) {
    ::unlink(sumsNext.c_str());
    return err;
  }
  BitsContent content;
  content.complete = complete;
  content.words.assign((identity.spanCount + 63) / 64, ~uint64_t{0});
  if (identity.spanCount % 64) content.words.back() >>= 64 - identity.spanCount % 64;
  return peel::writePresent(present, identity, content);
}

}  // namespace peel
