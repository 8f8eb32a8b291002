#include "sys/capabilities.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

namespace peel {
namespace {

/** More than any kernel has. */
constexpr int kMost = 64;

}  // namespace

uint64_t boundingSet() {
  uint64_t set = 0;
  for (int capability = 0; capability < kMost; ++capability)
    if (::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1) set |= uint64_t{1} << capability;
  return set;
}

int execBounded(uint64_t keep, const std::vector<std::string>& words, const std::vector<int>& fds) {
  if (words.empty()) return -EINVAL;
  const uint64_t excess = boundingSet() & ~keep;
  for (int capability = 0; capability < kMost; ++capability)
    if ((excess >> capability & 1) != 0 && ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) return -errno;
  for (const int fd : fds) ::fcntl(fd, F_SETFD, 0);
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  ::execv(pointers.front(), pointers.data());
  return -errno;
}

}  // namespace peel
