#pragma once
#include <time.h>

#include <cstdint>

namespace peel {

inline int64_t clockNs(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// What Node's performance.now() and process.hrtime() count from.
inline int64_t monotonicNs() { return clockNs(CLOCK_MONOTONIC); }

}  // namespace peel
