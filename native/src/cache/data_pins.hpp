#pragma once
#include <mutex>
#include <string>

#include "sys/fd.hpp"

namespace peel {

// The flock on <dir>/data. Shared: no bytes go (and no bitmap is written that an eviction could contradict); exclusively: by
// whoever evicts. Other than the lock of the layer it is held for a while only.
class DataPins {
 public:
  // Shared, through the file that all of a LayerCache's users read; waits for an eviction. 0 or -errno; every 0 needs a release().
  int hold(int dataFd);
  void release(int dataFd);

 private:
  std::mutex mutex_;
  size_t holders_ = 0;
};

// The file at `path` once more, locked by itself for as long as that file is open anywhere; -ESTALE when it is not `dataFd`'s any
// more. Shared waits for an eviction; exclusive does not wait: -EAGAIN when it is pinned.
enum class DataLock : int { Shared, Exclusive };
int openLocked(const std::string& path, int dataFd, DataLock kind, Fd& out);

}  // namespace peel
