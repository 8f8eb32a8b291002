#pragma once
#include <cstddef>
#include <cstdint>

namespace peel {

// Blob bytes of a span in which its first 32 KiB of stream are looked for: twice what they take without compression.
constexpr size_t kReachInput = size_t{64} << 10;

// Sets to 0 what no back reference of a span reaches of the kWindow bytes before it; false: that is all of it. `input`
// is where the span begins, with `bits` as of Checkpoint; as long as its first kWindow bytes of stream need it, or
// kReachInput bytes. Where those do not suffice (blocks that hold next to nothing) the window stays as it is.
bool keepReached(uint8_t* window, const uint8_t* input, size_t size, uint8_t bits);

}  // namespace peel
