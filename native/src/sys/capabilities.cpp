#include "sys/capabilities.hpp"

#include <errno.h>
#include <sys/prctl.h>

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

int limitBoundingSet(uint64_t keep) {
  const uint64_t excess = boundingSet() & ~keep;
  for (int capability = 0; capability < kMost; ++capability)
    if ((excess >> capability & 1) != 0 && ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) return -errno;
  return 0;
}

}  // namespace peel
