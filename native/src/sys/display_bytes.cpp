#include "sys/display_bytes.hpp"

#include <cstdint>

namespace peel {
namespace {

constexpr size_t kLongest = 1024;

// Bytes of the UTF-8 sequence at the beginning of `text`; 0 when it is none.
size_t sequence(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0u; };
  const uint32_t first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  uint32_t point = first & (0x7fu >> length);
  for (size_t i = 1; i < length; i++) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    point = point << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool right = first >= 0xc2 && first <= 0xf4 && point >= least[length] && point <= 0x10ffff;
  return right && (point < 0xd800 || point > 0xdfff) ? length : 0;
}

bool isUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = sequence(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string escaped(std::string_view bytes, bool utf8) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !utf8)) {
      out += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

std::string displayBytes(std::string_view bytes) {
  if (bytes.size() <= kLongest) return escaped(bytes, isUtf8(bytes));
  // Cut anywhere, perhaps in a character.
  return escaped(bytes.substr(0, kLongest / 2), false) + "..." + escaped(bytes.substr(bytes.size() - kLongest / 2), false);
}

}  // namespace peel
