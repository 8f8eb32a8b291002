#pragma once
#include <string>

#include "cache/live_bits.hpp"

namespace peel {

// The durable bitmap, <dir>/present. Written only after the bytes it speaks of were synced; replaced as a whole.

// 0 or -errno: -ENOENT when there is none, -ESTALE when it is of another index or another data file, -EILSEQ when damaged,
// -EPROTONOSUPPORT when a newer release wrote it.
int readPresent(const std::string& path, const BitsIdentity& identity, BitsContent& out);
int writePresent(const std::string& path, const BitsIdentity& identity, const BitsContent& content);

}  // namespace peel
