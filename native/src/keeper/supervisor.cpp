#include "keeper/supervisor.hpp"

#include <signal.h>
#include <string.h>

#include <algorithm>

namespace peel::keeper {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kFirstPause = 100 * kMs, kLongestPause = 30'000 * kMs;
/** A daemon that was ready for so long came to something. */
constexpr int64_t kWell = 2'000 * kMs;
/** After that one that was told to end is killed: systemd's TimeoutStopSec= of peel.service. */
constexpr int64_t kEndTime = 30'000 * kMs;
/** The old version gets at least as long to become ready again, however short the new one's time was. */
constexpr int64_t kOldTime = 60'000 * kMs;
constexpr size_t kLogLines = 20, kLogBytes = 16384;

std::string seconds(int64_t ms) {
  return ms % 1000 == 0 ? std::to_string(ms / 1000) + " s" : std::to_string(ms) + " ms";
}

}  // namespace

const char* phaseName(Supervisor::Phase phase) {
  switch (phase) {
    case Supervisor::Phase::Pausing: return "pausing";
    case Supervisor::Phase::Starting: return "starting";
    case Supervisor::Phase::Ready: return "ready";
    default: return "ending";
  }
}

void Supervisor::start(int64_t nowNs) {
  SpawnOptions options{s_.words, setting_.notify, setting_.watchdogNs / 1'000, -1, setting_.oomScore};
  const Fd log = pipes_.open();
  options.log = log.get();
  const pid_t pid = log.valid() ? spawnDaemon(options) : -errno;
  if (pid < 0) {
    s_.lastEnd = std::string("not started: ") + ::strerror(-pid);
    log_.say(Level::Error, "the daemon cannot be started: " + std::string(::strerror(-pid)));
    return pause(nowNs);
  }
  s_.pid = pid;
  s_.phase = Phase::Starting;
  s_.readyNs = 0;
  log_.say(Level::Info, "daemon is started, process " + std::to_string(pid));
}

/** Until the next start. The first follows at once: readers wait. */
void Supervisor::pause(int64_t nowNs) {
  s_.phase = Phase::Pausing;
  const uint32_t shift = std::min<uint32_t>(s_.failures, 16);
  const int64_t pauseNs = shift == 0 ? 0 : std::min(kLongestPause, kFirstPause << (shift - 1));
  s_.dueNs = nowNs + pauseNs;
  ++s_.failures;
  if (pauseNs > 0) log_.say(Level::Warn, "the next start is in " + seconds(pauseNs / kMs));
}

void Supervisor::end(int64_t nowNs) {
  s_.phase = Phase::Ending;
  s_.dueNs = nowNs + kEndTime;
  ::kill(s_.pid, SIGTERM);
}

int64_t Supervisor::nextNs() const {
  int64_t next = -1;
  const auto add = [&next](int64_t at) { next = next < 0 ? at : std::min(next, at); };
  if ((s_.phase == Phase::Pausing && !isStopping_) || (s_.phase == Phase::Ending && s_.dueNs > 0)) add(s_.dueNs);
  if (step_ == Step::TryNew || step_ == Step::TryOld) add(deadlineNs_);
  if (s_.phase == Phase::Ready) add(aliveNs_ + setting_.watchdogNs);
  return next;
}

void Supervisor::onTime(int64_t nowNs) {
  if (s_.phase == Phase::Ending && s_.dueNs > 0 && nowNs >= s_.dueNs) {
    log_.say(Level::Error, "the daemon does not end and is killed");
    ::kill(s_.pid, SIGKILL);
    s_.dueNs = 0;
  }
  if (s_.phase == Phase::Ready && nowNs >= aliveNs_ + setting_.watchdogNs) {
    log_.say(Level::Error, "the daemon has given no sign of life for " + seconds(setting_.watchdogNs / kMs) + " and is killed");
    ::kill(s_.pid, SIGKILL);
    aliveNs_ = nowNs;
  }
  if (step_ == Step::TryNew && nowNs >= deadlineNs_) {
    reason_ = "the new version was not ready within " + seconds(timeoutMs_);
    if (s_.pid == 0) return takeBack(reason_, nowNs);
    step_ = Step::KillNew;
    ::kill(s_.pid, SIGKILL);
  } else if (step_ == Step::TryOld && nowNs >= deadlineNs_) {
    decide(reason_ + "; the old version is not ready either");
  }
  if (s_.phase == Phase::Pausing && !isStopping_ && s_.pid == 0 && nowNs >= s_.dueNs) start(nowNs);
}

void Supervisor::onReady(int64_t nowNs) {
  if (s_.phase != Phase::Starting) return;
  s_.phase = Phase::Ready;
  s_.readyNs = nowNs;
  onAlive(nowNs);
  if (step_ == Step::TryNew) {
    log_.say(Level::Info, "upgrade: the new version is ready");
    step_ = Step::None;
    verdict_ = {asker_, "OK=1\nDAEMON_PID=" + std::to_string(s_.pid) +
                            "\nREADY_MSEC=" + std::to_string((nowNs - sinceNs_) / kMs)};
  } else if (step_ == Step::TryOld) {
    decide(reason_ + "; the old version runs again");
  }
}

void Supervisor::onEnd(int status, int64_t nowNs) {
  const bool wasWell = s_.readyNs > 0 && nowNs - s_.readyNs >= kWell;
  const bool wasTold = s_.phase == Phase::Ending;
  // What it said last is still on its way.
  pipes_.read(log_);
  s_.pid = 0;
  s_.lastEnd = describeEnd(status);
  s_.phase = Phase::Pausing;
  s_.dueNs = nowNs;
  log_.say(wasTold ? Level::Info : Level::Error, "daemon ended: " + s_.lastEnd);
  if (isStopping_) return;
  ++s_.restarts;
  switch (step_) {
    case Step::StopOld:
      step_ = Step::TryNew;
      s_.words = newWords_;
      s_.failures = 0;
      deadlineNs_ = nowNs + timeoutMs_ * kMs;
      return start(nowNs);
    case Step::TryNew: return takeBack("the new version ended before it was ready: " + s_.lastEnd, nowNs);
    case Step::KillNew: return takeBack(reason_, nowNs);
    case Step::TryOld:
      decide(reason_ + "; the old version ended as well: " + s_.lastEnd);
      break;
    case Step::None: break;
  }
  if (wasWell || wasTold) s_.failures = 0;
  pause(nowNs);
}

void Supervisor::takeBack(std::string reason, int64_t nowNs) {
  reason_ = std::move(reason);
  newLog_.clear();
  for (const std::string& line : pipes_.lastLines(kLogLines)) newLog_ += "\nLOG=" + line;
  if (newLog_.size() > kLogBytes) newLog_.resize(kLogBytes);
  log_.say(Level::Error, "upgrade: " + reason_ + "; the old version is started again");
  step_ = Step::TryOld;
  s_.words = oldWords_;
  s_.failures = 0;
  deadlineNs_ = nowNs + std::max(timeoutMs_ * kMs, kOldTime);
  start(nowNs);
}

void Supervisor::decide(std::string text) {
  step_ = Step::None;
  verdict_ = {asker_, "ERROR=" + std::move(text) + newLog_};
}

void Supervisor::stop(int64_t nowNs) {
  if (step_ != Step::None) newLog_.clear(), decide("the keeper was told to stop");
  const bool again = isStopping_;
  isStopping_ = true;
  if (s_.pid == 0) return;
  if (again) ::kill(s_.pid, SIGKILL);
  else if (s_.phase != Phase::Ending) end(nowNs);
}

void Supervisor::hangUp() {
  if (s_.pid > 0 && s_.phase != Phase::Ending) ::kill(s_.pid, SIGHUP);
}

std::string Supervisor::upgrade(const Request& request, uint64_t connection, int64_t nowNs) {
  if (isStopping_) return "the keeper is stopping";
  if (step_ != Step::None) return "another upgrade is under way";
  asker_ = connection;
  timeoutMs_ = request.timeoutMs;
  sinceNs_ = nowNs;
  oldWords_ = s_.words;
  newWords_ = request.words.empty() ? s_.words : request.words;
  newLog_.clear();
  step_ = Step::StopOld;
  log_.say(Level::Info, "upgrade: the old version is told to end");
  if (s_.pid > 0) {
    end(nowNs);
    return "";
  }
  step_ = Step::TryNew;
  s_.words = newWords_;
  s_.failures = 0;
  deadlineNs_ = nowNs + timeoutMs_ * kMs;
  start(nowNs);
  return "";
}

std::optional<Verdict> Supervisor::takeVerdict() {
  std::optional<Verdict> found;
  found.swap(verdict_);
  return found;
}

}  // namespace peel::keeper
