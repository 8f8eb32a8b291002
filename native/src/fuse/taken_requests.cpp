#include "fuse/taken_requests.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

#include "fuse/abi.hpp"
#include "sys/fd.hpp"

namespace peel::fuse {
namespace {

constexpr uint64_t kMagic = 0x314e454b41544c50;  // "PLTAKEN1": the last byte is the version
constexpr size_t kThreads = 63;

}  // namespace

/** One cache line per thread, so that they do not wait for each other. */
struct TakenRequests::File {
  alignas(64) std::atomic<uint64_t> magic;
  struct alignas(64) Line {
    std::atomic<uint64_t> unique;
  };
  Line threads[kThreads];
};

int TakenRequests::open(const std::string& path, std::unique_ptr<TakenRequests>& out) {
  static_assert(sizeof(File) == 4096);
  const Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return -errno;
  struct stat st;
  if (::fstat(fd.get(), &st) < 0) return -errno;
  if (!S_ISREG(st.st_mode) || (st.st_size != 0 && st.st_size != sizeof(File))) return -EINVAL;
  // Not ftruncate: on a full disk a write into a hole of a mapping is SIGBUS.
  if (st.st_size == 0) {
    if (const int err = ::posix_fallocate(fd.get(), 0, sizeof(File))) return -err;
  }
  void* mapped = ::mmap(nullptr, sizeof(File), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (mapped == MAP_FAILED) return -errno;
  std::unique_ptr<TakenRequests> taken(new TakenRequests(static_cast<File*>(mapped)));
  uint64_t magic = 0;
  if (!taken->file_->magic.compare_exchange_strong(magic, kMagic) && magic != kMagic) return -EINVAL;
  out = std::move(taken);
  return 0;
}

TakenRequests::~TakenRequests() { ::munmap(file_, sizeof(File)); }

void TakenRequests::take(unsigned index, uint64_t unique) {
  file_->threads[index % kThreads].unique.store(unique & ~(kResendBit | kInterruptBit), std::memory_order_relaxed);
}

uint64_t TakenRequests::last() const {
  uint64_t last = 0;
  for (const File::Line& line : file_->threads) last = std::max(last, line.unique.load(std::memory_order_relaxed));
  return last;
}

}  // namespace peel::fuse
