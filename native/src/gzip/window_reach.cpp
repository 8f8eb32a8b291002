#include "gzip/window_reach.hpp"

#include <array>
#include <cstring>
#include <memory>

#include "gzip/checkpoint_scan.hpp"
#include "gzip/inflater.hpp"

namespace peel {
namespace {

constexpr size_t kPasses = 2;
using Window = std::array<uint8_t, kWindow>;

// Two windows to inflate with instead of the true one. Where the two outputs differ, a byte was copied from the window,
// and the two values together tell from where: those of one place are never equal, and no two places have the same.
const std::array<Window, kPasses>& markers() {
  static const std::array<Window, kPasses> both = [] {
    std::array<Window, kPasses> marked;
    for (size_t p = 0; p < kWindow; p++) {
      marked[0][p] = static_cast<uint8_t>(p);
      marked[1][p] = static_cast<uint8_t>(p + 1 + (p >> 8));
    }
    return marked;
  }();
  return both;
}

size_t placeOf(uint8_t first, uint8_t second) {
  const auto page = static_cast<uint8_t>(second - first - 1);
  return (static_cast<size_t>(page) << 8 | first) % kWindow;
}

// Up to kWindow bytes of the member that the span begins in; behind its end nothing reaches back. False: cut short.
bool inflateStart(Inflater& inflater, Window& out, size_t& length) {
  length = 0;
  while (length < kWindow) {
    size_t produced = 0;
    const Inflater::Status status = inflater.run(out.data() + length, kWindow - length, produced);
    length += produced;
    if (status == Inflater::Status::End) return true;
    if (status != Inflater::Status::More) return length == kWindow;
  }
  return true;
}

}  // namespace

bool keepReached(uint8_t* window, const uint8_t* input, size_t size, uint8_t bits) {
  if (bits != 0 && size == 0) return true;
  const auto outputs = std::make_unique<std::array<Window, kPasses>>();
  const auto inflater = makeInflater(inflateBackend());
  size_t lengths[kPasses];
  for (size_t pass = 0; pass < kPasses; pass++) {
    inflater->start(input, size, bits, markers()[pass].data(), kWindow);
    if (!inflateStart(*inflater, (*outputs)[pass], lengths[pass])) return true;
  }
  if (lengths[0] != lengths[1]) return true;
  Window kept{};
  for (size_t i = 0; i < lengths[0]; i++) {
    // Most bytes are no copies: eight at a time.
    while (i + 8 <= lengths[0] && std::memcmp(&(*outputs)[0][i], &(*outputs)[1][i], 8) == 0) i += 8;
    if (i == lengths[0]) break;
    const uint8_t first = (*outputs)[0][i], second = (*outputs)[1][i];
    if (first != second) kept[placeOf(first, second)] = 0xff;
  }
  uint8_t any = 0;
  for (size_t p = 0; p < kWindow; p++) {
    window[p] &= kept[p];
    any |= kept[p];
  }
  return any != 0;
}

}  // namespace peel
