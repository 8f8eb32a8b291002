#pragma once
#include <vector>

#include "gzip/sha256.hpp"

namespace peel {

// sha256 of every span's blob bytes, which are cut where the checkpoints turn out to be. Neighbours share one byte when
// the boundary lies inside it.
class SpanHasher {
 public:
  void feed(const uint8_t* bytes, size_t length) {
    if (length == 0) return;
    if (begun_) hash_.update(bytes, length);
    last_ = bytes[length - 1];
  }
  // A checkpoint behind everything fed so far.
  void cut(uint8_t bits) {
    if (begun_) digests_.push_back(hash_.finish());
    begun_ = true;
    if (bits != 0) hash_.update(&last_, 1);
  }
  void finish() {
    if (begun_) digests_.push_back(hash_.finish());
    begun_ = false;
  }
  const std::vector<Sha256Digest>& digests() const { return digests_; }

 private:
  Sha256 hash_;
  bool begun_ = false;
  uint8_t last_ = 0;
  std::vector<Sha256Digest> digests_;
};

}  // namespace peel
