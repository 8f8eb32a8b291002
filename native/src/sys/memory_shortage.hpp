#pragma once
#include <chrono>
#include <cstdint>

namespace peel {

// When there is no memory, an allocation by `new`, on any thread of the process, is tried again for a while before it fails: others free
// theirs meanwhile, or whoever took all of it ends. Waiting is noticed only by the thread that needs memory.
class MemoryShortage {
 public:
  static constexpr std::chrono::milliseconds kPatience{5000};

  // From now on. Idempotent. `patience`: for how long an allocation is tried again.
  static void watch(std::chrono::milliseconds patience = kPatience);
  // Somebody did not get memory: gives back what was freed and is still kept.
  static void note();
  // ns of monotonicNs() of the last time; 0: never.
  static int64_t lastAt();
};

}  // namespace peel
