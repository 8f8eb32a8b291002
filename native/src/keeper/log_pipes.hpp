// What a daemon and the helpers it leaves behind write to stderr: passed on, and the end of it remembered for who asks why one ended.
#pragma once
#include <poll.h>

#include <string>
#include <vector>

#include "keeper/log.hpp"
#include "sys/fd.hpp"

namespace peel::keeper {

class LogPipes {
 public:
  /** The end to be written to, for a new daemon, whose lines are the remembered ones from now on. Not valid: errno says why. */
  Fd open();
  /** From an earlier program of this process. */
  void adopt(Fd fd) { pipes_.push_back(std::move(fd)); }
  const std::vector<Fd>& all() const { return pipes_; }

  /** Reads all that is there, but no more than `log` takes. */
  void read(Log& log);
  /** The last lines of the daemon, without line breaks at their ends. */
  std::vector<std::string> lastLines(size_t most) const;

 private:
  std::vector<Fd> pipes_;
  int daemons_ = -1;
  std::string tail_;
};

}  // namespace peel::keeper
