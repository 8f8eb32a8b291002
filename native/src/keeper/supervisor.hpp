// The daemon as the keeper's child: started, restarted with growing pauses, and replaced by another version that is taken back when it
// does not become ready.
#pragma once
#include <stdint.h>

#include <optional>
#include <string>
#include <vector>

#include "keeper/log.hpp"
#include "keeper/log_pipes.hpp"
#include "keeper/request.hpp"
#include "keeper/spawn.hpp"

namespace peel::keeper {

/** How an upgrade went, for who asked for it. */
struct Verdict {
  uint64_t connection;
  std::string text;
};

class Supervisor {
 public:
  enum class Phase : uint8_t { Pausing, Starting, Ready, Ending };

  struct State {
    std::vector<std::string> words;
    pid_t pid = 0;
    Phase phase = Phase::Pausing;
    int64_t dueNs = 0;  // Pausing: until then; Ending: then it is killed
    int64_t readyNs = 0;
    uint32_t failures = 0;  // lives in a row that came to nothing
    uint64_t restarts = 0;
    std::string lastEnd;
  };

  struct Setting {
    /** Path of the daemon's NOTIFY_SOCKET. */
    std::string notify;
    std::string oomScore;
    /** A daemon that is ready and gives no sign of life for so long is killed. */
    int64_t watchdogNs;
  };

  Supervisor(Log& log, LogPipes& pipes, Setting setting, State state, int64_t nowNs)
      : log_(log), pipes_(pipes), setting_(std::move(setting)), s_(std::move(state)), aliveNs_(nowNs) {}

  const State& state() const { return s_; }
  bool isUpgrading() const { return step_ != Step::None; }
  /** It was told to stop, and the daemon has ended. */
  bool isOver() const { return isStopping_ && s_.pid == 0; }

  /** Starts, kills or gives up what is due. */
  void onTime(int64_t nowNs);
  /** -1: nothing is due. */
  int64_t nextNs() const;
  void onEnd(int status, int64_t nowNs);
  void onReady(int64_t nowNs);
  void onAlive(int64_t nowNs) { aliveNs_ = nowNs; }
  void stop(int64_t nowNs);
  void hangUp();
  /** Empty: a verdict follows. Otherwise why not. */
  std::string upgrade(const Request& request, uint64_t connection, int64_t nowNs);
  std::optional<Verdict> takeVerdict();

 private:
  enum class Step : uint8_t { None, StopOld, TryNew, KillNew, TryOld };

  void start(int64_t nowNs);
  void end(int64_t nowNs);
  void pause(int64_t nowNs);
  void takeBack(std::string reason, int64_t nowNs);
  void decide(std::string text);

  Log& log_;
  LogPipes& pipes_;
  const Setting setting_;
  State s_;
  int64_t aliveNs_;
  bool isStopping_ = false;

  Step step_ = Step::None;
  std::vector<std::string> oldWords_, newWords_;
  int64_t timeoutMs_ = 0, deadlineNs_ = 0, sinceNs_ = 0;
  uint64_t asker_ = 0;
  std::string reason_, newLog_;
  std::optional<Verdict> verdict_;
};

const char* phaseName(Supervisor::Phase phase);

}  // namespace peel::keeper
