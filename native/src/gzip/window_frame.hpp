#pragma once
#include <cstdint>
#include <vector>

#include "gzip/sha256.hpp"

namespace peel {

// A window with nothing in it but what its span reaches, as a zstd frame of its runs. No bytes: the span reaches nothing.
struct WindowFrame {
  std::vector<uint8_t> bytes;
  Sha256Digest sha256{};
};

// Of kWindow bytes; those that are 0 are not in it.
WindowFrame windowFrame(const uint8_t* window);

}  // namespace peel
