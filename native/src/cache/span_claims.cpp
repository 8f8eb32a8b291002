#include "cache/span_claims.hpp"

#include <fcntl.h>

#include "sys/file_io.hpp"

namespace peel {
int SpanClaims::acquire(int dataFd, uint32_t span) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !held_.contains(span); });
    held_.insert(span);
  }
  int err = lockByte(dataFd, span, F_WRLCK);
  if (err) {
    std::lock_guard lock(mutex_);
    held_.erase(span);
    changed_.notify_all();
  }
  return err;
}

void SpanClaims::release(int dataFd, uint32_t span) {
  lockByte(dataFd, span, F_UNLCK);
  std::lock_guard lock(mutex_);
  held_.erase(span);
  changed_.notify_all();
}

}  // namespace peel
