#pragma once
#include <string>

#include "sys/fd.hpp"

namespace peel {

/** A socket that listens at `path`, which only its owner may open (0600). 0 or a negative errno; -EADDRINUSE for a path that is there. */
int listenUnix(const std::string& path, Fd& out);

}  // namespace peel
