#include "cache/live_bits.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "sys/fd.hpp"
#include "sys/file_io.hpp"

namespace peel {
namespace {

constexpr char kMagic[8] = {'p', 'e', 'e', 'l', 'l', 'i', 'v', 'e'};
constexpr uint32_t kVersion = 1;
constexpr uint32_t kComplete = 1;
constexpr size_t kHeaderSize = 256;

size_t wordCount(uint32_t spans) { return (static_cast<size_t>(spans) + 63) / 64; }

// The run directory is normally a tmpfs; where it is not, bits of an earlier boot must not come back, because their
// bytes may never have reached the disk.
std::array<char, 40> bootId() {
  std::array<char, 40> id{};
  Fd fd(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  if (fd.valid() && ::read(fd.get(), id.data(), 36) < 0) id.fill(0);
  return id;
}

}  // namespace

struct LiveBits::Header {
  char magic[8];
  uint32_t version;
  uint32_t flags;
  BitsIdentity identity;
  char boot[40];
  uint64_t trailingZeros;
};

LiveBits::~LiveBits() {
  if (header_) ::munmap(header_, length_);
}

int LiveBits::open(const std::string& path, const BitsIdentity& identity, const std::function<BitsContent()>& initial) {
  spanCount_ = identity.spanCount;
  length_ = kHeaderSize + wordCount(spanCount_) * sizeof(uint64_t);
  for (;;) {
    Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd.valid()) return -errno;
    while (::flock(fd.get(), LOCK_EX) < 0) {
      if (errno != EINTR) return -errno;
    }
    struct stat mine{}, there{};
    if (::fstat(fd.get(), &mine) < 0) return -errno;
    if (::stat(path.c_str(), &there) < 0 || mine.st_ino != there.st_ino || mine.st_dev != there.st_dev) continue;
    if (mine.st_size == 0) {
      if (int err = fill(fd.get(), identity, initial())) {
        ::unlink(path.c_str());
        return err;
      }
      return map(fd.get());
    }
    Header header;
    if (static_cast<size_t>(mine.st_size) != length_ || !readHeader(fd.get(), header) || header.identity != identity) {
      // Whoever has the old one mapped keeps it; it speaks of other bytes.
      if (::unlink(path.c_str()) < 0 && errno != ENOENT) return -errno;
      continue;
    }
    return map(fd.get());
  }
}

// True for a finished file of this boot.
bool LiveBits::readHeader(int fd, Header& header) {
  return readFully(fd, &header, sizeof header, 0) == 0 && std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 &&
         header.version == kVersion && std::memcmp(header.boot, bootId().data(), sizeof header.boot) == 0;
}

bool LiveBits::ofAnotherIndex(const std::string& path, const BitsIdentity& identity) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  Header header;
  return fd.valid() && readHeader(fd.get(), header) && !header.identity.sameIndex(identity);
}

// The header is written last: a process that dies here leaves a file without magic, which the next one replaces.
int LiveBits::fill(int fd, const BitsIdentity& identity, const BitsContent& content) {
  static_assert(sizeof(Header) <= kHeaderSize);
  // Without reserved pages a full run directory would answer a later store with SIGBUS.
  if (int err = ::posix_fallocate(fd, 0, static_cast<off_t>(length_))) return -err;
  std::vector<uint64_t> words(content.words);
  words.resize(wordCount(identity.spanCount));
  if (int err = writeFully(fd, words.data(), words.size() * sizeof(uint64_t), kHeaderSize)) return err;
  Header header;
  std::memset(static_cast<void*>(&header), 0, sizeof header);
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.flags = content.complete ? kComplete : 0;
  header.identity = identity;
  auto boot = bootId();
  std::memcpy(header.boot, boot.data(), sizeof header.boot);
  header.trailingZeros = content.trailingZeros;
  return writeFully(fd, &header, sizeof header, 0);
}

int LiveBits::map(int fd) {
  void* at = ::mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return -errno;
  header_ = static_cast<Header*>(at);
  words_ = reinterpret_cast<uint64_t*>(static_cast<char*>(at) + kHeaderSize);
  // The mapping keeps the open file, and with it the lock, beyond close().
  return ::flock(fd, LOCK_UN) < 0 ? -errno : 0;
}

bool LiveBits::test(uint32_t span) const {
  uint64_t word = std::atomic_ref<uint64_t>(words_[span / 64]).load(std::memory_order_acquire);
  return (word >> (span % 64)) & 1;
}

void LiveBits::set(uint32_t span) {
  std::atomic_ref<uint64_t>(words_[span / 64]).fetch_or(uint64_t{1} << (span % 64), std::memory_order_release);
}

void LiveBits::clear(uint32_t span) {
  std::atomic_ref<uint32_t>(header_->flags).fetch_and(~kComplete, std::memory_order_acq_rel);
  std::atomic_ref<uint64_t>(words_[span / 64]).fetch_and(~(uint64_t{1} << (span % 64)), std::memory_order_acq_rel);
}

uint32_t LiveBits::count() const {
  uint32_t n = 0;
  for (size_t i = 0; i < wordCount(spanCount_); i++) {
    n += static_cast<uint32_t>(std::popcount(std::atomic_ref<uint64_t>(words_[i]).load(std::memory_order_acquire)));
  }
  return n;
}

bool LiveBits::all() const { return count() == spanCount_; }

bool LiveBits::complete() const {
  return std::atomic_ref<uint32_t>(header_->flags).load(std::memory_order_acquire) & kComplete;
}

void LiveBits::setComplete() {
  std::atomic_ref<uint32_t>(header_->flags).fetch_or(kComplete, std::memory_order_acq_rel);
}

uint64_t LiveBits::trailingZeros() const {
  return std::atomic_ref<uint64_t>(header_->trailingZeros).load(std::memory_order_acquire);
}

void LiveBits::setTrailingZeros(uint64_t bytes) {
  std::atomic_ref<uint64_t>(header_->trailingZeros).store(bytes, std::memory_order_release);
}

BitsContent LiveBits::snapshot() const {
  BitsContent content;
  content.complete = complete();
  content.words.resize(wordCount(spanCount_));
  for (size_t i = 0; i < content.words.size(); i++) {
    content.words[i] = std::atomic_ref<uint64_t>(words_[i]).load(std::memory_order_acquire);
  }
  content.trailingZeros = trailingZeros();
  return content;
}

}  // namespace peel
