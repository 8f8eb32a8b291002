// The two ends of fusermount3's conversation: a socket pair, and the fd that comes over it.
#pragma once
#include "sys/fd.hpp"

namespace peel {

/** 0 or -errno. `ours` is close-on-exec; `theirs` too: spawning with it as a stdio entry clears that. */
int makeFdSocket(Fd& ours, Fd& theirs);

/** Waits for one fd. 0; -ENODATA when the peer closed without sending one; -errno. */
int receiveFd(int socket, Fd& out);

}  // namespace peel
