#include "gzip/gzip_header.hpp"

#include <cstring>
#include <initializer_list>

namespace peel {
namespace {

constexpr uint8_t kHeaderCrc = 2, kExtra = 4, kName = 8, kComment = 16, kReserved = 0xe0;
constexpr size_t kFixed = 10;

}  // namespace

GzipHeader parseGzipHeader(const uint8_t* bytes, size_t size, size_t& length) {
  constexpr uint8_t kStart[3] = {0x1f, 0x8b, 8};
  const size_t known = size < sizeof kStart ? size : sizeof kStart;
  if (known > 0 && std::memcmp(bytes, kStart, known) != 0) return GzipHeader::Bad;
  if (size < kFixed) return GzipHeader::CutShort;
  const uint8_t flags = bytes[3];
  if (flags & kReserved) return GzipHeader::Bad;
  size_t at = kFixed;
  if (flags & kExtra) {
    if (size - at < 2) return GzipHeader::CutShort;
    const size_t extra = bytes[at] | (bytes[at + 1] << 8);
    if (size - at < 2 + extra) return GzipHeader::CutShort;
    at += 2 + extra;
  }
  for (uint8_t field : {kName, kComment}) {
    if (!(flags & field)) continue;
    const void* nul = size > at ? std::memchr(bytes + at, 0, size - at) : nullptr;
    if (!nul) return GzipHeader::CutShort;
    at = static_cast<size_t>(static_cast<const uint8_t*>(nul) - bytes) + 1;
  }
  if (flags & kHeaderCrc) {
    if (size - at < 2) return GzipHeader::CutShort;
    at += 2;
  }
  length = at;
  return GzipHeader::Whole;
}

}  // namespace peel
