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
 * Copies every segment into `to` (plan.size bytes); all spans must be present. 0, or an errno: EIO where the data file
 * ends early.
 */
int collect(const ReadPlan& plan, uint8_t* to);

}  // namespace peel::fuse
