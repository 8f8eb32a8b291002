// What the keeper hands to the next program of its own process: lines of KEY=VALUE in a memory file. File descriptors keep their numbers.
#pragma once
#include <stdint.h>

#include <string>
#include <vector>

#include "keeper/supervisor.hpp"
#include "sys/fd.hpp"

namespace peel::keeper {

struct SavedFd {
  int fd;
  bool isPolled;
  std::string name;
};

struct SavedState {
  std::string program;  // absolute path of the keeper
  std::string socket;   // and of its socket
  std::string oomScore;
  int listener = -1, lock = -1, notify = -1;
  uint64_t executions = 0;
  bool isReadySaid = false;
  std::vector<SavedFd> kept;
  std::vector<int> pipes;
  Supervisor::State daemon;  // no words: there is none
};

/** A memory file, close-on-exec; not valid: errno says why. */
Fd saveState(const SavedState& state);
/** Empty, or why it cannot be read: another version's, or damaged. The file stays the caller's. */
std::string loadState(int fd, SavedState& out);

/** Exit code of `--check`: no other program has it by chance. */
constexpr int kCanGoOn = 73;

/**
 * Has another file of the keeper say whether it can go on from the state (`--check`), which takes a moment. Empty, or why not.
 */
std::string checkProgram(const std::string& program, int state);

}  // namespace peel::keeper
