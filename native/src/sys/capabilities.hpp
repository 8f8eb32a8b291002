#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace peel {

/** The bounding set of this thread (capabilities(7)): bit N is capability N. */
uint64_t boundingSet();

/**
 * Takes everything from the bounding set that is not in `keep` and replaces the process by `words` (a path and its arguments): one of root's has no more
 * than that then, in all of its threads. `fds` stay open, whoever marked them for closing. Returns only when that fails: -errno.
 */
int execBounded(uint64_t keep, const std::vector<std::string>& words, const std::vector<int>& fds);

}  // namespace peel
