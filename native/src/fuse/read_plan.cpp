#include "fuse/read_plan.hpp"

#include <errno.h>

#include <algorithm>
#include <cstring>

namespace peel::fuse {

int collect(const ReadPlan& plan, uint8_t* to) {
  if (plan.size == 0) return 0;
  uint32_t filled = 0;
  for (const ReadSegment& segment : plan.segments) {
    std::memset(to + filled, 0, segment.at - filled);
    filled = segment.at + segment.length;
    if (!segment.cache) {
      std::memcpy(to + segment.at, segment.bytes, segment.length);
      continue;
    }
    const int err = segment.cache->copy(segment.streamOffset, segment.length, to + segment.at);
    if (err == -ENODATA) {
      const bool mended = segment.cache->mendLength() == 0 && !segment.cache->unchanged(segment.generation);
      return mended ? ENODATA : EIO;
    }
    if (err) return -err;
  }
  std::memset(to + filled, 0, plan.size - filled);
  return 0;
}

bool distrust(const ReadPlan& plan) {
  bool isOver = false;
  for (const ReadSegment& segment : plan.segments) {
    if (segment.cache && segment.cache->distrust(segment.streamOffset, segment.length)) isOver = true;
  }
  return isOver;
}

bool isCurrent(const ReadPlan& plan) {
  return std::all_of(plan.segments.begin(), plan.segments.end(), [](const ReadSegment& segment) {
    return !segment.cache || segment.cache->unchanged(segment.generation);
  });
}

}  // namespace peel::fuse
