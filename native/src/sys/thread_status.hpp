#pragma once
#include <cstdint>

namespace peel {

/**
 * Bit `bit` of a hexadecimal mask in /proc/<tid>/status ("SigPnd", "CapEff"). False also when the thread cannot be seen,
 * as one of another pid namespace (tid 0).
 */
bool threadStatusBit(uint32_t tid, const char* field, unsigned bit);

}  // namespace peel
