#include "sys/resident_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>

#include "sys/fd.hpp"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

namespace peel {

int ResidentFile::open(const std::string& path, size_t limit, std::shared_ptr<ResidentFile>& out) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return -errno;
  struct stat st{};
  if (::fstat(fd.get(), &st) < 0) return -errno;
  if (!S_ISREG(st.st_mode) || st.st_size == 0) return -EINVAL;
  if (static_cast<uint64_t>(st.st_size) > limit) return -EFBIG;
  const auto size = static_cast<size_t>(st.st_size);
  void* base = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) return -errno;
  out = std::shared_ptr<ResidentFile>(new ResidentFile(base, size));
  return 0;
}

ResidentFile::~ResidentFile() { ::munmap(base_, size_); }

int ResidentFile::populate() const {
  // Kernels before 5.14 know only the request to read ahead.
  if (::madvise(base_, size_, MADV_POPULATE_READ) == 0 || ::madvise(base_, size_, MADV_WILLNEED) == 0) return 0;
  return -errno;
}

}  // namespace peel
