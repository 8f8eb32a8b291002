#pragma once
#include <atomic>

namespace peel {

/**
 * Removes what `name` is in the directory `dir`, with all beneath it; no symbolic link is followed and no mount entered.
 * Returns 0 or -errno: ENOENT when nothing is there, EBUSY or EXDEV where something is mounted, ECANCELED once `stop` is
 * set.
 */
int removeTree(int dir, const char* name, const std::atomic<bool>& stop);

}  // namespace peel
