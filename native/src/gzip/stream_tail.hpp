#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace peel {

// The last bytes of what was decoded so far: the window of the span that comes next.
class StreamTail {
 public:
  static constexpr size_t kMost = 32768;

  void add(const uint8_t* bytes, size_t length) {
    if (length == 0) return;
    const size_t taken = std::min(length, kMost);
    const size_t kept = std::min(size_, kMost - taken);
    if (kept > 0) std::memmove(bytes_.data(), bytes_.data() + (size_ - kept), kept);
    std::memcpy(bytes_.data() + kept, bytes + (length - taken), taken);
    size_ = kept + taken;
  }

  const uint8_t* data() const { return bytes_.data(); }
  size_t size() const { return size_; }

 private:
  std::array<uint8_t, kMost> bytes_;
  size_t size_ = 0;
};

}  // namespace peel
