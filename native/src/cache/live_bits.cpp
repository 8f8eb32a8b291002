#include "cache/live_bits.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "sys/clock.hpp"
#include "sys/fd.hpp"
#include "sys/file_io.hpp"

namespace peel {
namespace {

constexpr char kMagic[8] = {'p', 'e', 'e', 'l', 'l', 'i', 'v', 'e'};
constexpr uint32_t kVersion = 2;
// Without generation and stamps: the same up to the end of the bits.
constexpr uint32_t kOlderVersion = 1;
constexpr uint32_t kComplete = 1;
constexpr uint32_t kTrimmed = 2;
constexpr uint32_t kEvicting = 4;
constexpr uint32_t kMending = 8;
constexpr size_t kHeaderSize = 256;

size_t wordCount(uint32_t spans) { return (static_cast<size_t>(spans) + 63) / 64; }

// The run directory is normally a tmpfs; where it is not, bits of an earlier boot must not come back, because their
// bytes may never have reached the disk.
std::array<char, 40> bootId() {
  static std::mutex mutex;
  static std::array<char, 40> id{};
  std::lock_guard lock(mutex);
  if (id[0] == 0) {
    // Where it cannot be read now it may be the next time.
    Fd fd(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
    if (fd.valid() && ::read(fd.get(), id.data(), 36) < 0) id.fill(0);
  }
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
  uint64_t generation;
};

LiveBits::~LiveBits() {
  if (header_) ::munmap(header_, length_);
  if (ownStamps_) ::munmap(stamps_, spanCount_ * sizeof(uint32_t));
}

size_t LiveBits::lengthOf(uint32_t version) const {
  const size_t bits = kHeaderSize + wordCount(spanCount_) * sizeof(uint64_t);
  return version == kOlderVersion ? bits : bits + spanCount_ * sizeof(uint32_t);
}

int LiveBits::open(const std::string& path, const BitsIdentity& identity, const std::function<BitsContent()>& initial) {
  spanCount_ = identity.spanCount;
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
      return map(fd.get(), kVersion);
    }
    Header header{};
    const bool isReadable = readHeader(fd.get(), header);
    // Those who use it would not see what is evicted through another one.
    if (isOfThisBoot(header) && header.version > kVersion) return -EPROTONOSUPPORT;
    if (!isReadable || static_cast<size_t>(mine.st_size) != lengthOf(header.version) ||
        header.identity != identity) {
      // Whoever has the old one mapped keeps it; it speaks of other bytes.
      if (::unlink(path.c_str()) < 0 && errno != ENOENT) return -errno;
      continue;
    }
    return map(fd.get(), header.version);
  }
}

bool LiveBits::isOfThisBoot(const Header& header) {
  return std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 &&
         std::memcmp(header.boot, bootId().data(), sizeof header.boot) == 0;
}

// True for a finished file of this boot.
bool LiveBits::readHeader(int fd, Header& header) {
  return readFully(fd, &header, sizeof header, 0) == 0 && isOfThisBoot(header) &&
         (header.version == kVersion || header.version == kOlderVersion);
}

bool LiveBits::ofAnotherIndex(const std::string& path, const BitsIdentity& identity) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  Header header;
  return fd.valid() && readHeader(fd.get(), header) && !header.identity.sameIndex(identity);
}

bool LiveBits::isOf(const std::string& path, const BitsIdentity& identity) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  Header header;
  return fd.valid() && readHeader(fd.get(), header) && header.identity == identity;
}

bool LiveBits::ofOlderVersion(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  Header header;
  return fd.valid() && readHeader(fd.get(), header) && header.version == kOlderVersion;
}

bool LiveBits::evictable(const std::string& path) const {
  struct stat there{};
  return !ownStamps_ && ::stat(path.c_str(), &there) == 0 && there.st_ino == inode_ && there.st_dev == device_;
}

// The header is written last: a process that dies here leaves a file without magic, which the next one replaces.
int LiveBits::fill(int fd, const BitsIdentity& identity, const BitsContent& content) {
  static_assert(sizeof(Header) <= kHeaderSize);
  // Without reserved pages a full run directory would answer a later store with SIGBUS.
  if (int err = ::posix_fallocate(fd, 0, static_cast<off_t>(lengthOf(kVersion)))) return -err;
  std::vector<uint64_t> words(content.words);
  words.resize(wordCount(identity.spanCount));
  if (int err = writeFully(fd, words.data(), words.size() * sizeof(uint64_t), kHeaderSize)) return err;
  Header header;
  std::memset(static_cast<void*>(&header), 0, sizeof header);
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.flags = content.complete ? kComplete : 0;
  header.identity = identity;
  const auto boot = bootId();
  std::memcpy(header.boot, boot.data(), sizeof header.boot);
  header.trailingZeros = content.trailingZeros;
  return writeFully(fd, &header, sizeof header, 0);
}

int LiveBits::map(int fd, uint32_t version) {
  struct stat info{};
  if (::fstat(fd, &info) < 0) return -errno;
  inode_ = info.st_ino;
  device_ = info.st_dev;
  length_ = lengthOf(version);
  void* at = ::mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return -errno;
  header_ = static_cast<Header*>(at);
  words_ = reinterpret_cast<uint64_t*>(static_cast<char*>(at) + kHeaderSize);
  stamps_ = reinterpret_cast<uint32_t*>(words_ + wordCount(spanCount_));
  if (version == kOlderVersion) {
    const size_t length = spanCount_ * sizeof(uint32_t);
    void* own = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (own == MAP_FAILED) return -errno;
    stamps_ = static_cast<uint32_t*>(own);
    ownStamps_ = true;
  }
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
  std::atomic_ref<uint32_t> flags(header_->flags);
  // Before it is taken back, so that nobody finds neither.
  if (flags.load(std::memory_order_acquire) & kComplete) {
    flags.fetch_or(kMending, std::memory_order_acq_rel);
    flags.fetch_and(~kComplete, std::memory_order_acq_rel);
  }
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

bool LiveBits::hasFlag(uint32_t flag) const {
  return std::atomic_ref<uint32_t>(header_->flags).load(std::memory_order_acquire) & flag;
}

bool LiveBits::complete() const { return hasFlag(kComplete); }

void LiveBits::setComplete() {
  std::atomic_ref<uint32_t> flags(header_->flags);
  flags.fetch_or(kComplete, std::memory_order_acq_rel);
  flags.fetch_and(~kMending, std::memory_order_acq_rel);
}

bool LiveBits::mending() const { return hasFlag(kMending); }

uint64_t LiveBits::trailingZeros() const {
  return std::atomic_ref<uint64_t>(header_->trailingZeros).load(std::memory_order_acquire);
}

void LiveBits::setTrailingZeros(uint64_t bytes) {
  std::atomic_ref<uint64_t>(header_->trailingZeros).store(bytes, std::memory_order_release);
}

uint64_t LiveBits::generation() const {
  return std::atomic_ref<uint64_t>(header_->generation).load(std::memory_order_acquire);
}

bool LiveBits::unchanged(uint64_t generation) const {
#ifndef __SANITIZE_THREAD__  // It knows no fences, and nothing of what the kernel copies.
  std::atomic_thread_fence(std::memory_order_acquire);
#endif
  return this->generation() == generation;
}

void LiveBits::nextGeneration() {
  std::atomic_ref<uint64_t>(header_->generation).fetch_add(1, std::memory_order_acq_rel);
}

uint32_t LiveBits::coarseNow() {
  return static_cast<uint32_t>(clockNs(CLOCK_MONOTONIC_COARSE) / 1'000'000'000) + 1;
}

uint32_t LiveBits::lastUsed(uint32_t span) const {
  return std::atomic_ref<uint32_t>(stamps_[span]).load(std::memory_order_relaxed);
}

void LiveBits::use(uint32_t first, uint32_t last, uint32_t now) {
  for (uint32_t span = first; span <= last; span++) {
    std::atomic_ref<uint32_t> stamp(stamps_[span]);
    // A store would take the cache line from all who read the same spans.
    if (stamp.load(std::memory_order_relaxed) != now) stamp.store(now, std::memory_order_relaxed);
  }
}

bool LiveBits::trimmed() const { return hasFlag(kTrimmed); }
bool LiveBits::evicting() const { return hasFlag(kEvicting); }

void LiveBits::beginEviction() {
  std::atomic_ref<uint32_t> flags(header_->flags);
  flags.fetch_or(kEvicting, std::memory_order_acq_rel);
  flags.fetch_and(~kTrimmed, std::memory_order_acq_rel);
}

void LiveBits::endEviction() {
  std::atomic_ref<uint32_t> flags(header_->flags);
  flags.fetch_or(kTrimmed, std::memory_order_acq_rel);
  flags.fetch_and(~kEvicting, std::memory_order_acq_rel);
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
