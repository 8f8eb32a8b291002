// Files that the kernel reads by itself on behalf of a FUSE file (passthrough).
#pragma once
#include <cstdint>

namespace peel::fuse {

/** A backing id (> 0) for the open file, or -errno: EPERM without CAP_SYS_ADMIN, ELOOP on a stacked filesystem. */
int openBacking(int deviceFd, int fileFd);
int closeBacking(int deviceFd, int32_t id);

}  // namespace peel::fuse
