#include "apply/layer_streams.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "sys/file_io.hpp"

namespace peel {
namespace {

constexpr uint64_t kBuffer = 512 * 1024;
// One read for many small files; a larger one is worth a call of its own, and may share blocks.
constexpr uint64_t kSmall = 128 * 1024;
// Between two looks at whether to stop.
constexpr uint64_t kPiece = 8 << 20;
constexpr uint64_t kBlock = 4096;

bool cannotShare(int err) { return err == EXDEV || err == EOPNOTSUPP || err == EINVAL || err == ENOSYS || err == EPERM; }

}  // namespace

int LayerStreams::add(uint32_t stream, int fd) {
  Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return -errno;
  if ((::fcntl(copy.get(), F_GETFL) & O_ACCMODE) == O_WRONLY) return -EBADF;
  std::lock_guard lock(mutex_);
  if (stopped_) return -ECANCELED;
  return streams_.emplace(stream, std::make_unique<Stream>(std::move(copy))).second ? 0 : -EEXIST;
}

int LayerStreams::advance(uint32_t number, uint64_t offset) {
  {
    std::lock_guard lock(mutex_);
    const auto found = streams_.find(number);
    if (found == streams_.end()) return -ENOENT;
    if (offset <= found->second->available) return 0;
    found->second->available = offset;
  }
  changed_.notify_all();
  return 0;
}

void LayerStreams::stop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
}

void LayerStreams::release() {
  std::lock_guard lock(mutex_);
  buffered_ = nullptr;
  streams_.clear();
}

LayerStreams::Stream* LayerStreams::find(uint32_t number) {
  std::lock_guard lock(mutex_);
  const auto found = streams_.find(number);
  return found == streams_.end() ? nullptr : found->second.get();
}

bool LayerStreams::waitFor(Stream& stream, uint64_t offset) {
  if (stream.available >= offset) return true;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stopped_ || stream.available >= offset; });
  return stream.available >= offset;
}

int LayerStreams::copy(uint32_t number, const OpExtent& extent, int to) {
  if (extent.size == 0) return 0;
  Stream* stream = find(number);
  if (!stream) return -ENOENT;
  return extent.size <= kSmall ? copySmall(*stream, extent, to) : copyLarge(*stream, extent, to);
}

int LayerStreams::copySmall(Stream& stream, const OpExtent& extent, int to) {
  const uint64_t end = extent.streamOffset + extent.size;
  if (buffered_ != &stream || extent.streamOffset < bufferStart_ || end > bufferStart_ + bufferSize_) {
    if (!waitFor(stream, end)) return -ECANCELED;
    if (const int err = fill(stream, extent.streamOffset, extent.size)) return err;
  }
  const uint8_t* bytes = buffer_.get() + (extent.streamOffset - bufferStart_);
  if (const int err = writeFully(to, bytes, extent.size, extent.fileOffset)) return err;
  copied_.fetch_add(extent.size, std::memory_order_relaxed);
  return 0;
}

int LayerStreams::copyLarge(Stream& stream, const OpExtent& extent, int to) {
  for (uint64_t done = 0; done < extent.size;) {
    const uint64_t from = extent.streamOffset + done, at = extent.fileOffset + done, left = extent.size - done;
    // Pieces end where blocks of the file do, so that one is neither written twice nor kept from being shared.
    const uint64_t least = std::min(left, kBlock - at % kBlock);
    if (!waitFor(stream, from + least)) return -ECANCELED;
    uint64_t size = std::min({left, stream.available - from, kPiece});
    if (size < left) size -= (at + size) % kBlock;
    const int64_t copied = copyPiece(stream, from, to, at, size);
    if (copied < 0) return static_cast<int>(copied);
    done += static_cast<uint64_t>(copied);
    copied_.fetch_add(static_cast<uint64_t>(copied), std::memory_order_relaxed);
  }
  return 0;
}

// Bytes copied, at least one, or -errno.
int64_t LayerStreams::copyPiece(Stream& stream, uint64_t from, int to, uint64_t at, uint64_t size) {
  if (stream.shares) {
    auto source = static_cast<loff_t>(from), target = static_cast<loff_t>(at);
    const ssize_t copied = ::copy_file_range(stream.fd.get(), &source, to, &target, size, 0);
    if (copied > 0) return copied;
    // None copied: either the file ends here or a kernel that cannot copy it says so; reading tells which.
    if (copied < 0 && errno == EINTR) return copyPiece(stream, from, to, at, size);
    if (copied < 0 && !cannotShare(errno)) return -errno;
    stream.shares = false;
  }
  const uint64_t part = std::min(size, kBuffer);
  if (const int err = fill(stream, from, part)) return err;
  if (const int err = writeFully(to, buffer_.get(), part, at)) return err;
  return static_cast<int64_t>(part);
}

// Reads at least `needed` bytes, which are available, and as much of what follows as is there and fits.
int LayerStreams::fill(Stream& stream, uint64_t offset, uint64_t needed) {
  if (!buffer_) buffer_.reset(new uint8_t[kBuffer]);
  buffered_ = nullptr;
  const uint64_t wanted = std::min(kBuffer, stream.available - offset);
  uint64_t got = 0;
  while (got < needed) {
    const ssize_t size = ::pread(stream.fd.get(), buffer_.get() + got, wanted - got, static_cast<off_t>(offset + got));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return -errno;
    if (size == 0) return -ENODATA;
    got += static_cast<uint64_t>(size);
  }
  buffered_ = &stream;
  bufferStart_ = offset;
  bufferSize_ = got;
  return 0;
}

}  // namespace peel
