#pragma once
#include <cstdint>

namespace peel {

/** The bounding set of this thread (capabilities(7)): bit N is capability N. */
uint64_t boundingSet();

/** Takes everything from it that is not in `keep`: what this thread becomes or starts can have no more. 0 or -errno. */
int limitBoundingSet(uint64_t keep);

}  // namespace peel
