// Starts the daemon.
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace peel::keeper {

struct SpawnOptions {
  std::vector<std::string> words;
  /** Path of its NOTIFY_SOCKET. */
  std::string notify;
  /** What it may take between two signs of life, in µs: its WATCHDOG_USEC. */
  int64_t watchdogUs;
  /** Its stderr. */
  int log;
  /** Its oom_score_adj; empty: the keeper's. */
  std::string oomScore;
};

/** The process, or -errno. That the program is not there shows as exit code 127, with a line on `log`. */
pid_t spawnDaemon(const SpawnOptions& options);

/** "exit code 1", "killed by signal 9". */
std::string describeEnd(int status);

}  // namespace peel::keeper
