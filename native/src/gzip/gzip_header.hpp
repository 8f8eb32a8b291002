#pragma once
#include <cstddef>
#include <cstdint>

namespace peel {

enum class GzipHeader : uint8_t { Whole, CutShort, Bad };

// RFC 1952 §2.3: the header at the start of a member, with its optional fields. Whole: `length` bytes.
// The header's own CRC is not checked: nothing depends on the fields it covers.
GzipHeader parseGzipHeader(const uint8_t* bytes, size_t size, size_t& length);

}  // namespace peel
