// peel-keeper: holds file descriptors for a daemon that may end at any time, and where there is no service manager starts it again.
//
//   peel-keeper --socket PATH [--capabilities SET] [-- COMMAND...]
//                               SET: a number; bit N for capability N that the command may have at most
//   peel-keeper --resume FD     go on from what an earlier program of this process kept
//   peel-keeper --check FD      exit code 73 when that is possible
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>

#include <algorithm>

#include "keeper/keeper.hpp"
#include "keeper/notify_socket.hpp"
#include "keeper/saved_state.hpp"
#include "sys/capabilities.hpp"
#include "sys/files.hpp"

namespace peel::keeper {
namespace {

constexpr const char* kOomFile = "/proc/self/oom_score_adj";
/** For sockets, pipes, and what comes with a message. */
constexpr size_t kOwnFds = 512;
constexpr size_t kMostFds = 262'144;

[[noreturn]] void fail(const std::string& what, int err = 0) {
  ::fprintf(stderr, "peel-keeper: %s%s%s\n", what.c_str(), err == 0 ? "" : ": ", err == 0 ? "" : ::strerror(err));
  ::exit(err == 0 ? 2 : 1);
}

[[noreturn]] void failUsage() { fail("usage: peel-keeper --socket /PATH [--capabilities SET] [-- COMMAND...]"); }

std::string readSmall(const char* path) {
  const Fd fd(::open(path, O_RDONLY | O_CLOEXEC));
  char bytes[64];
  const ssize_t size = fd.valid() ? ::read(fd.get(), bytes, sizeof bytes) : -1;
  return std::string(bytes, size < 0 ? 0 : static_cast<size_t>(size));
}

std::string ownProgram(const char* word) {
  if (word[0] == '/') return word;
  char path[4096];
  const ssize_t size = ::readlink("/proc/self/exe", path, sizeof path);
  if (size <= 0) fail("cannot find its own file", errno);
  return std::string(path, static_cast<size_t>(size));
}

bool spareFromOom() {
  const Fd fd(::open(kOomFile, O_WRONLY | O_CLOEXEC));
  return fd.valid() && ::write(fd.get(), "-1000", 5) == 5;
}

/** How many file descriptors may be kept. */
size_t raiseLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) < 0) fail("getrlimit", errno);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const size_t all = static_cast<size_t>(limit.rlim_cur);
  return std::min(kMostFds, all > 2 * kOwnFds ? all - kOwnFds : all / 2);
}

/** What the keeper executes and starts has no others, even as root. */
void limitRights(const char* word) {
  int64_t set;
  if (!parseNumber(word, INT64_MAX, set)) fail("--capabilities without a number");
  const int err = ::geteuid() == 0 ? limitBoundingSet(static_cast<uint64_t>(set)) : 0;
  if (err != 0 && err != -EPERM) fail("capabilities", -err);
}

/** Root's daemon gets its rights again by its own start, where they are still permitted; an ordinary user has none to give up. */
void dropRights(bool hasDaemon) {
  makeUndumpable();
  if (::geteuid() != 0) return;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct rights[2] = {};
  if (::syscall(SYS_capget, &header, rights) < 0) fail("capget", errno);
  for (auto& half : rights) {
    half.effective = 0;
    if (!hasDaemon) half.permitted = half.inheritable = 0;
  }
  if (::syscall(SYS_capset, &header, rights) < 0) fail("capset", errno);
}

Fd takeSignals() {
  sigset_t taken;
  ::sigemptyset(&taken);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR2, SIGCHLD}) ::sigaddset(&taken, number);
  ::sigprocmask(SIG_SETMASK, &taken, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  Fd fd(::signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) fail("signalfd", errno);
  return fd;
}

SavedState begin(const char* self, const std::string& socket, std::vector<std::string> words) {
  SavedState state;
  state.program = ownProgram(self);
  state.socket = socket;
  state.oomScore = readSmall(kOomFile);
  state.oomScore.erase(std::remove(state.oomScore.begin(), state.oomScore.end(), '\n'), state.oomScore.end());
  Fd lock(::open((socket + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock.valid()) fail(socket + ".lock", errno);
  const int err = tryLockFile(lock.get(), true);
  if (err == -EWOULDBLOCK) fail("another keeper serves " + socket, EADDRINUSE);
  if (err != 0) fail(socket + ".lock", -err);
  Fd listener, notify;
  if (!words.empty()) {
    const int bound = NotifySocket::open(socket + ".notify", notify);
    if (bound != 0) fail(socket + ".notify", -bound);
  }
  const int bound = bindPrivate(socket, SOCK_SEQPACKET, listener);
  if (bound != 0) fail(socket, -bound);
  if (::listen(listener.get(), 128) < 0) fail(socket, errno);
  state.lock = lock.release();
  state.listener = listener.release();
  state.notify = notify.release();
  state.daemon.words = std::move(words);
  return state;
}

SavedState resume(const char* word) {
  int64_t number;
  if (!parseNumber(word, 0x7fffffff, number)) fail("--resume without a number");
  const Fd saved(static_cast<int>(number));
  SavedState state;
  const std::string wrong = loadState(saved.get(), state);
  if (!wrong.empty()) fail("what is kept is " + wrong);
  const auto claim = [](int fd) { return fd < 0 || ::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0; };
  if (!claim(state.listener) || !claim(state.lock) || !claim(state.notify)) fail("its sockets are lost", EBADF);
  std::erase_if(state.pipes, [&claim](int pipe) { return !claim(pipe); });
  std::erase_if(state.kept, [&claim](const SavedFd& kept) { return !claim(kept.fd); });
  return state;
}

int check(const char* word) {
  int64_t number;
  SavedState state;
  return parseNumber(word, 0x7fffffff, number) && loadState(static_cast<int>(number), state).empty() ? kCanGoOn : 1;
}

int main(int argc, char** argv) {
  const std::string first = argc > 2 ? argv[1] : "";
  if (argc == 3 && first == "--check") return check(argv[2]);
  // Nothing of ours may come to be stdin, stdout or stderr.
  for (int fd = 0; fd >= 0 && fd <= STDERR_FILENO;) {
    fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd > STDERR_FILENO) ::close(fd);
    else if (fd >= 0) ::fcntl(fd, F_SETFD, 0);
  }
  // What whoever started the keeper left open is neither its nor the daemon's.
  if (first == "--socket") ::close_range(STDERR_FILENO + 1, ~0U, 0);
  // Before a pipe or a child is there.
  Fd signals = takeSignals();
  const size_t limit = raiseLimit();
  SavedState state;
  if (argc == 3 && first == "--resume") {
    state = resume(argv[2]);
  } else if (first == "--socket" && argv[2][0] == '/') {
    int next = 3;
    if (argc > next + 1 && std::string_view(argv[next]) == "--capabilities") {
      limitRights(argv[next + 1]);
      next += 2;
    }
    if (argc > next && (std::string_view(argv[next]) != "--" || argc == next + 1)) failUsage();
    std::vector<std::string> words;
    for (int i = next + 1; i < argc; ++i) {
      words.emplace_back(argv[i]);
      if (words.back().find('\n') != std::string::npos) fail("an argument with a line break");
    }
    state = begin(argv[0], argv[2], std::move(words));
  } else {
    failUsage();
  }
  if (::chdir("/") < 0) fail("chdir", errno);
  // The last one to be killed when memory is short; allowed for root alone.
  if (!spareFromOom()) state.oomScore.clear();
  dropRights(!state.daemon.words.empty());
  return Keeper(std::move(state), std::move(signals), limit).run();
}

}  // namespace
}  // namespace peel::keeper

int main(int argc, char** argv) { return peel::keeper::main(argc, argv); }
