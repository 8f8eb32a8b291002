#pragma once
#include <cstddef>
#include <cstdint>

namespace peel {

// XXH64 (seed 0), from its published specification. Finds a damaged disk block, not an attacker: what came from the
// network is checked by sha256 before it gets here.
class Xxh64 {
 public:
  void update(const uint8_t* bytes, size_t length);
  uint64_t digest() const;

 private:
  static constexpr size_t kStripe = 32;
  void stripes(const uint8_t* bytes, size_t count);

  uint64_t lanes_[4] = {0x60ea27eeadc0b5d6u, 0xc2b2ae3d27d4eb4fu, 0, 0x61c8864e7a143579u};
  uint64_t total_ = 0;
  uint8_t rest_[kStripe];
  size_t restLength_ = 0;
};

}  // namespace peel
