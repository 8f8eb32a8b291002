#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

namespace peel {

// Decodes whole zstd frames, skippable ones included (RFC 8878), one after the other, and hands the bytes to `sink` in pieces. Memory is bounded by
// what comes out, whatever size a frame states. 0, what `sink` returned when that is not 0, -EBADMSG for what is not whole frames, -ENOMEM.
int decodeZstdFrames(const uint8_t* data, size_t size, const std::function<int(const uint8_t* bytes, size_t length)>& sink);

}  // namespace peel
