#include "keeper/saved_state.hpp"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keeper/request.hpp"
#include "sys/clock.hpp"

namespace peel::keeper {
namespace {

/** Counts up with each change that an older or newer program would not understand. */
constexpr std::string_view kVersion = "1";
constexpr int64_t kMaxFd = 0x7fffffff, kMaxCount = INT64_C(999'999'999'999'999'999);
constexpr off_t kMaxSize = off_t{1} << 30;
constexpr int64_t kCheckNs = INT64_C(10'000'000'000);

std::string textOf(const SavedState& s) {
  std::string out = "version=" + std::string(kVersion);
  const auto line = [&out](std::string_view key, const std::string& value) { out.append("\n").append(key).append("=").append(value); };
  const auto number = [&line](std::string_view key, auto value) { line(key, std::to_string(value)); };
  line("program", s.program);
  line("socket", s.socket);
  line("oom", s.oomScore);
  number("listener", s.listener);
  number("lock", s.lock);
  if (s.notify >= 0) number("notify", s.notify);
  number("executions", s.executions);
  number("said", s.isReadySaid ? 1 : 0);
  for (const int pipe : s.pipes) number("pipe", pipe);
  for (const std::string& word : s.daemon.words) line("word", word);
  number("pid", s.daemon.pid);
  number("phase", static_cast<int>(s.daemon.phase));
  number("due", s.daemon.dueNs);
  number("ready", s.daemon.readyNs);
  number("failures", s.daemon.failures);
  number("restarts", s.daemon.restarts);
  line("end", s.daemon.lastEnd);
  for (const SavedFd& kept : s.kept) line("kept", std::to_string(kept.fd) + (kept.isPolled ? ":1:" : ":0:") + kept.name);
  return out + "\ncomplete=1\n";
}

bool parseKept(std::string_view value, SavedFd& out) {
  const size_t first = value.find(':');
  if (first == std::string_view::npos || value.size() < first + 3 || value[first + 2] != ':') return false;
  int64_t fd;
  if (!parseNumber(value.substr(0, first), kMaxFd, fd)) return false;
  out = {static_cast<int>(fd), value[first + 1] == '1', std::string(value.substr(first + 3))};
  return isFdName(out.name);
}

}  // namespace

Fd saveState(const SavedState& state) {
  const std::string text = textOf(state);
  Fd fd(::memfd_create("peel-keeper", MFD_CLOEXEC));
  for (size_t done = 0; fd.valid() && done < text.size();) {
    const ssize_t size = ::write(fd.get(), text.data() + done, text.size() - done);
    if (size < 0 && errno != EINTR) return Fd();
    if (size > 0) done += static_cast<size_t>(size);
  }
  return fd;
}

std::string loadState(int fd, SavedState& out) {
  struct stat found{};
  if (::fstat(fd, &found) < 0) return ::strerror(errno);
  if (found.st_size > kMaxSize) return "too large";
  std::string text(static_cast<size_t>(found.st_size), '\0');
  if (::pread(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) return "cannot be read";
  std::string_view version;
  bool isRight = true, isComplete = false;
  forEachLine(text, [&](std::string_view key, std::string_view value) {
    int64_t number = 0;
    const auto into = [&](auto& target, int64_t max) {
      isRight = isRight && parseNumber(value, max, number);
      target = static_cast<std::remove_reference_t<decltype(target)>>(number);
    };
    Supervisor::State& daemon = out.daemon;
    if (key == "version") version = value;
    else if (key == "complete") isComplete = true;
    else if (key == "program") out.program = value;
    else if (key == "socket") out.socket = value;
    else if (key == "oom") out.oomScore = value;
    else if (key == "listener") into(out.listener, kMaxFd);
    else if (key == "lock") into(out.lock, kMaxFd);
    else if (key == "notify") into(out.notify, kMaxFd);
    else if (key == "executions") into(out.executions, kMaxCount);
    else if (key == "said") out.isReadySaid = value == "1";
    else if (key == "pipe") into(out.pipes.emplace_back(), kMaxFd);
    else if (key == "word") daemon.words.emplace_back(value);
    else if (key == "pid") into(daemon.pid, kMaxFd);
    else if (key == "phase") into(daemon.phase, static_cast<int>(Supervisor::Phase::Ending));
    else if (key == "due") into(daemon.dueNs, kMaxCount);
    else if (key == "ready") into(daemon.readyNs, kMaxCount);
    else if (key == "failures") into(daemon.failures, 0xffffffff);
    else if (key == "restarts") into(daemon.restarts, kMaxCount);
    else if (key == "end") daemon.lastEnd = value;
    else if (key == "kept") isRight = isRight && parseKept(value, out.kept.emplace_back());
  });
  if (version != kVersion) return "of version " + std::string(version) + ", and version " + std::string(kVersion) + " is understood";
  return isRight && isComplete && out.listener >= 0 && out.lock >= 0 ? "" : "damaged";
}

std::string checkProgram(const std::string& program, int state) {
  const pid_t pid = ::fork();
  if (pid < 0) return std::string("fork: ") + ::strerror(errno);
  if (pid == 0) {
    // Number 3 is for it alone; everything else closes.
    const int copy = ::dup2(state, 3) == 3 ? 3 : -1;
    if (state == 3) ::fcntl(3, F_SETFD, 0);
    const char* words[] = {program.c_str(), "--check", "3", nullptr};
    if (copy == 3) ::execv(program.c_str(), const_cast<char**>(words));
    ::_exit(errno == ENOENT ? 127 : 126);
  }
  const int64_t end = monotonicNs() + kCheckNs;
  int status = 0;
  pid_t ended;
  while ((ended = ::waitpid(pid, &status, WNOHANG)) == 0 && monotonicNs() < end) ::usleep(2000);
  if (ended != pid) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, &status, 0);
    return program + " does not answer";
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == kCanGoOn) return "";
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) return program + " is not there";
  if (WIFEXITED(status) && WEXITSTATUS(status) == 126) return program + " cannot be executed";
  return program + " cannot go on from what is kept: " + describeEnd(status);
}

}  // namespace peel::keeper
