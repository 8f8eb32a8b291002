// How far the requests of a connection were taken from the kernel, in a file that outlives the process: who serves the connection
// next must know it where the kernel cannot send again what was left unanswered.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace peel::fuse {

class TakenRequests {
 public:
  /** Creates the file where it is not there. 0 or a negative errno; -EINVAL for a file that is none of these. */
  static int open(const std::string& path, std::unique_ptr<TakenRequests>& out);
  ~TakenRequests();
  TakenRequests(const TakenRequests&) = delete;
  TakenRequests& operator=(const TakenRequests&) = delete;

  /** By thread `index` of the session. */
  void take(unsigned index, uint64_t unique);
  /** The newest of all; 0 when none was. */
  uint64_t last() const;

 private:
  struct File;
  explicit TakenRequests(File* file) : file_(file) {}
  File* file_;
};

}  // namespace peel::fuse
