#pragma once
#include <atomic>
#include <string_view>

namespace peel {

/**
 * Opens the directory `path` beneath the directory `root`, following no symbolic link and entering no mount; `flags` are
 * O_PATH or O_RDONLY. `path` is clean, or "" for the root itself, and may be longer than PATH_MAX.
 * Returns a file descriptor or -errno: ELOOP or ENOTDIR where a symbolic link is on the way, EXDEV where a mount is.
 */
int openDirectoryBeneath(int root, std::string_view path, int flags);

/** False: as on a kernel, or in a sandbox, without openat2(2). For tests. */
extern std::atomic<bool> useOpenat2;

}  // namespace peel
