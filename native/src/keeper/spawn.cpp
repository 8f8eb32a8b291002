#include "keeper/spawn.hpp"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

namespace peel::keeper {
namespace {

/** What a service manager said to the keeper is not meant for the daemon. */
constexpr const char* kNotInherited[] = {"WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"};

[[noreturn]] void become(const SpawnOptions& options) {
  // A process group of its own: Ctrl-C is the keeper's, which tells the daemon once.
  ::setpgid(0, 0);
  sigset_t none;
  ::sigemptyset(&none);
  ::signal(SIGPIPE, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::dup2(options.log, STDERR_FILENO);
  if (!options.oomScore.empty()) {
    const int fd = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && ::write(fd, options.oomScore.data(), options.oomScore.size()) < 0) ::perror("peel-keeper: oom_score_adj");
  }
  for (const char* name : kNotInherited) ::unsetenv(name);
  ::setenv("NOTIFY_SOCKET", options.notify.c_str(), 1);
  ::setenv("WATCHDOG_USEC", std::to_string(options.watchdogUs).c_str(), 1);
  std::vector<char*> words;
  for (const std::string& word : options.words) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  ::execvp(words[0], words.data());
  ::fprintf(stderr, "peel-keeper: cannot execute %s: %s\n", words[0], ::strerror(errno));
  ::_exit(127);
}

}  // namespace

pid_t spawnDaemon(const SpawnOptions& options) {
  const pid_t pid = ::fork();
  if (pid == 0) become(options);
  return pid < 0 ? -errno : pid;
}

std::string describeEnd(int status) {
  if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
  return "exit code " + std::to_string(WEXITSTATUS(status));
}

}  // namespace peel::keeper
