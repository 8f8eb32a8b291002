// The file descriptors that are kept, by name.
#pragma once
#include <stddef.h>

#include <map>
#include <string>
#include <vector>

#include "sys/fd.hpp"

namespace peel::keeper {

struct KeptFd {
  Fd fd;
  bool isPolled;
};

class FdStore {
 public:
  explicit FdStore(size_t limit) : limit_(limit) {}

  /** Empty, or why it is not kept. What was kept by that name is closed. */
  std::string put(const std::string& name, Fd fd, bool isPolled);
  void remove(const std::string& name);
  /** From now on it is dropped once it is dead. */
  void setPolled(const std::string& name);
  /** -1 when there is none. It stays the store's. */
  int find(const std::string& name) const;

  /**
   * Closes those that are of no use to anybody: the mount of a FUSE connection is gone, or the other end of a pipe. Returns their names.
   * They are looked at now and then instead of waited for: each request to a FUSE server wakes everybody who waits for its fd.
   */
  std::vector<std::string> dropDead();

  const std::map<std::string, KeptFd>& all() const { return kept_; }
  size_t limit() const { return limit_; }
  bool hasPolled() const;

 private:
  const size_t limit_;
  std::map<std::string, KeptFd> kept_;
};

}  // namespace peel::keeper
