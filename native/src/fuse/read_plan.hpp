// Where the bytes of one READ come from. What no segment covers is zeros: a hole, or the padding after a stream's end.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "cache/layer_cache.hpp"

namespace peel::fuse {

struct ReadSegment {
  uint32_t at;      // in the answer
  uint32_t length;
  std::shared_ptr<LayerCache> cache;  // null: the bytes are in memory
  uint64_t streamOffset;
  const uint8_t* bytes;
  uint64_t generation = 0;  // of the cache, before its spans were found present
};

struct ReadPlan {
  uint32_t size = 0;  // of the whole answer; an answer is never shorter except at the end of the file
  std::vector<ReadSegment> segments;

  void clear() {
    size = 0;
    segments.clear();
  }
};

/**
 * Copies every segment into `to` (plan.size bytes); all spans must be present. 0, or an errno: ENODATA where the data
 * file was cut short, and what is missing is not present any more. The bytes count only if the plan isCurrent() afterwards.
 */
int collect(const ReadPlan& plan, uint8_t* to);

/** A disk did not give the bytes: all of them are to come from elsewhere. False when none can. */
bool distrust(const ReadPlan& plan);

/** Whether nothing was evicted from any of the caches since each segment's generation was noted. */
bool isCurrent(const ReadPlan& plan);

}  // namespace peel::fuse
