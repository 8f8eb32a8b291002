#include "keeper/keeper.hpp"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "keeper/request.hpp"
#include "sys/clock.hpp"
#include "sys/files.hpp"

namespace peel::keeper {
namespace {

constexpr size_t kMaxConnections = 64;
constexpr useconds_t kNoRoomUs = 20'000;
constexpr int64_t kSweepNs = INT64_C(10'000'000'000);
/** For the daemon where no service manager says otherwise: WatchdogSec= of peel.service. */
constexpr int64_t kWatchdogNs = INT64_C(60'000'000'000);
/** No shorter time is believed: it would keep the processors busy. */
constexpr int64_t kLeastWatchdogNs = INT64_C(100'000'000), kMostWatchdogUs = INT64_C(86'400'000'000);

/** False when there is no such file descriptor. */
bool setCloseOnExec(int fd, bool on) { return ::fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) == 0; }

/** "DEVICE:INODE" of the file that this process runs, whatever is at its path by now. */
std::string ownFile() {
  struct stat found{};
  if (::stat("/proc/self/exe", &found) < 0) return "";
  return std::to_string(found.st_dev) + ":" + std::to_string(found.st_ino);
}

/** sd_watchdog_enabled(3). */
int64_t ownWatchdogNs() {
  const char* const pid = ::getenv("WATCHDOG_PID");
  const char* const time = ::getenv("WATCHDOG_USEC");
  int64_t us;
  if (time == nullptr || !parseNumber(time, kMostWatchdogUs, us) || us == 0) return 0;
  if (pid != nullptr && std::to_string(::getpid()) != pid) return 0;
  return std::max(kLeastWatchdogNs, us * 1'000);
}

}  // namespace

Keeper::Keeper(SavedState state, Fd signals, size_t limit)
    : store_(limit),
      program_(state.program),
      file_(ownFile()),
      socket_(state.socket),
      oomScore_(state.oomScore),
      signals_(std::move(signals)),
      listener_(state.listener),
      lock_(state.lock),
      executions_(state.executions),
      isReadySaid_(state.isReadySaid),
      watchdogNs_(ownWatchdogNs()) {
  for (const SavedFd& kept : state.kept) {
    // A name that is dead by now goes with the next look.
    const std::string wrong = store_.put(kept.name, Fd(kept.fd), false);
    if (wrong.empty() && kept.isPolled) store_.setPolled(kept.name);
    if (!wrong.empty()) log_.say(Level::Error, kept.name + " is lost: " + wrong);
  }
  for (const int pipe : state.pipes) pipes_.adopt(Fd(pipe));
  if (state.daemon.words.empty()) return;
  notify_.emplace(socket_ + ".notify", Fd(state.notify));
  Supervisor::Setting setting{notify_->path(), oomScore_, watchdogNs_ > 0 ? watchdogNs_ : kWatchdogNs};
  supervisor_.emplace(log_, pipes_, std::move(setting), std::move(state.daemon), monotonicNs());
}

int Keeper::run() {
  log_.say(Level::Info, (executions_ == 0 ? "keeper serves " : "keeper was executed anew and serves ") + socket_);
  if (!supervisor_ && !isReadySaid_) tellManager("READY=1\nSTATUS=keeping file descriptors");
  isReadySaid_ = isReadySaid_ || !supervisor_;
  reap();
  std::vector<pollfd> entries;
  while (!isStopping_ || (supervisor_ && !supervisor_->isOver())) {
    if (supervisor_) {
      supervisor_->onTime(monotonicNs());
      if (const auto verdict = supervisor_->takeVerdict()) {
        for (const auto& connection : connections_)
          if (connection->id() == verdict->connection) connection->finish(verdict->text);
      }
    }
    for (const auto& connection : connections_) connection->flush(store_);
    std::erase_if(connections_, [](const auto& connection) { return connection->isClosed(); });
    wait(entries);
  }
  for (const auto& connection : connections_) connection->flush(store_);
  pipes_.read(log_);
  log_.say(Level::Info, "keeper ends");
  log_.flushAll();
  ::unlink(socket_.c_str());
  if (notify_) ::unlink(notify_->path().c_str());
  return 0;
}

/** Waits until something is to be done, and does it. */
void Keeper::wait(std::vector<pollfd>& entries) {
  entries.clear();
  const auto add = [&entries](int fd, short events) { entries.push_back({fd, events, 0}); };
  add(signals_.get(), POLLIN);
  add(listener_.get(), POLLIN);
  add(notify_ ? notify_->fd() : -1, POLLIN);
  add(log_.isWaiting() ? STDERR_FILENO : -1, POLLOUT);
  const size_t firstConnection = entries.size();
  for (const auto& connection : connections_) add(connection->fd(), connection->events());
  if (!log_.isFull())
    for (const Fd& pipe : pipes_.all()) add(pipe.get(), POLLIN);

  const int64_t now = monotonicNs();
  int64_t next = store_.hasPolled() ? std::max(now, sweepNs_ + kSweepNs) : -1;
  if (supervisor_ && supervisor_->nextNs() >= 0) next = next < 0 ? supervisor_->nextNs() : std::min(next, supervisor_->nextNs());
  if (watchdogNs_ > 0) next = next < 0 ? aliveNs_ + watchdogNs_ / 2 : std::min(next, aliveNs_ + watchdogNs_ / 2);
  const int64_t waitMs = next < 0 ? -1 : std::clamp<int64_t>((next - now + 999'999) / 1'000'000, 0, 3'600'000);
  if (::poll(entries.data(), entries.size(), static_cast<int>(waitMs)) < 0) return;

  if (entries[3].revents != 0) log_.flush();
  pipes_.read(log_);
  if (entries[2].revents != 0) readNotices();
  if (entries[0].revents != 0) onSignals();
  // accept() adds to the list, behind those that were waited for.
  const size_t count = connections_.size();
  if (entries[1].revents != 0) accept();
  for (size_t i = 0; i < count; ++i) {
    const short events = entries[firstConnection + i].revents;
    if (events != 0) serve(*connections_[i]);
  }
  if (monotonicNs() >= sweepNs_ + kSweepNs) sweep();
  tellAlive(monotonicNs());
}

void Keeper::onSignals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    switch (info.ssi_signo) {
      case SIGCHLD: reap(); break;
      case SIGHUP:
        if (supervisor_) supervisor_->hangUp();
        break;
      case SIGUSR2: executeAnew("", nullptr); break;
      default:
        if (!isStopping_) tellManager("STOPPING=1");
        isStopping_ = true;
        if (supervisor_) supervisor_->stop(monotonicNs());
    }
  }
}

/** As the first process of a container it has others' children as well. */
void Keeper::reap() {
  int status;
  for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    if (!supervisor_ || pid != supervisor_->state().pid) continue;
    readNotices();
    supervisor_->onEnd(status, monotonicNs());
    if (!isStopping_) tellManager("STATUS=the daemon ended (" + supervisor_->state().lastEnd + ") and is started again");
  }
}

void Keeper::readNotices() {
  Notice notice;
  while (notify_ && notify_->receive(supervisor_->state().pid, notice)) {
    if (notice.isReady) supervisor_->onReady(monotonicNs());
    if (notice.isAlive) supervisor_->onAlive(monotonicNs());
    if (!notice.forward.empty() && !isStopping_) tellManager(notice.forward);
    isReadySaid_ = isReadySaid_ || notice.isReady;
  }
}

void Keeper::tellManager(const std::string& text) {
  const char* address = ::getenv("NOTIFY_SOCKET");
  if (address != nullptr && *address != '\0') sendNotify(address, text);
}

/** As often as its service manager wants to hear of it. What becomes of the daemon is the keeper's own business. */
void Keeper::tellAlive(int64_t nowNs) {
  if (watchdogNs_ == 0 || nowNs < aliveNs_ + watchdogNs_ / 2) return;
  aliveNs_ = nowNs;
  tellManager("WATCHDOG=1");
}

void Keeper::accept() {
  for (;;) {
    Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) {
      // Who cannot be let in stays in the queue, and poll(2) does not wait for that to change.
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) ::usleep(kNoRoomUs);
      return;
    }
    if (connections_.size() < kMaxConnections && isTrusted(socket.get()))
      connections_.push_back(std::make_unique<Connection>(std::move(socket), nextId_++));
  }
}

void Keeper::serve(Connection& connection) {
  connection.flush(store_);
  if ((connection.events() & POLLIN) == 0 && !connection.isClosed()) return connection.closeIfGone();
  FdMessage message;
  std::string problem;
  if (connection.isClosed() || !connection.receive(message, problem)) return;
  if (problem.empty()) obey(connection, message);
  else connection.answer("ERROR=" + problem);
  connection.flush(store_);
}

void Keeper::obey(Connection& connection, FdMessage& message) {
  Request request;
  std::string wrong = parseRequest(message.text, request);
  if (wrong.empty() && request.wish != Wish::Store && !message.fds.empty()) wrong = "file descriptors with a request that takes none";
  if (wrong.empty() && request.wish == Wish::Store && message.fds.size() != 1) wrong = "not one file descriptor";
  if (!wrong.empty()) return connection.answer("ERROR=" + wrong);
  switch (request.wish) {
    case Wish::Store:
      wrong = store_.put(request.name, std::move(message.fds[0]), request.isPolled);
      return connection.answer(wrong.empty() ? "OK=1" : "ERROR=" + wrong);
    case Wish::Remove:
      store_.remove(request.name);
      return connection.answer("OK=1");
    case Wish::Fds:
      sweep();
      for (const auto& [name, kept] : store_.all()) connection.answerFd(name, kept.isPolled);
      return connection.answer("OK=1");
    case Wish::Status:
      sweep();
      return connection.answer(status());
    case Wish::Upgrade: return upgrade(connection, request);
    case Wish::Reexec: return executeAnew(request.path, &connection);
  }
}

void Keeper::upgrade(Connection& connection, const Request& request) {
  if (!supervisor_) return connection.answer("ERROR=this keeper has no daemon of its own");
  const std::string wrong = supervisor_->upgrade(request, connection.id(), monotonicNs());
  if (wrong.empty()) connection.wait();
  else connection.answer("ERROR=" + wrong);
}

void Keeper::sweep() {
  sweepNs_ = monotonicNs();
  for (const std::string& name : store_.dropDead()) log_.say(Level::Info, name + " is of no use any more and is not kept");
}

std::string Keeper::status() const {
  std::string out = "OK=1\nMODE=" + std::string(supervisor_ ? "parent" : "alone") + "\nPID=" + std::to_string(::getpid()) +
                    "\nPROGRAM=" + program_ + "\nFILE=" + file_ + "\nFDS=" + std::to_string(store_.all().size()) +
                    "\nMAX_FDS=" + std::to_string(store_.limit()) + "\nEXECUTIONS=" + std::to_string(executions_);
  if (!supervisor_) return out;
  const Supervisor::State& daemon = supervisor_->state();
  out += "\nDAEMON=" + std::string(phaseName(daemon.phase)) + "\nDAEMON_PID=" + std::to_string(daemon.pid) +
         "\nRESTARTS=" + std::to_string(daemon.restarts);
  if (!daemon.lastEnd.empty()) out += "\nLAST_END=" + daemon.lastEnd;
  for (const std::string& word : daemon.words) out += "\nARG=" + word;
  return out;
}

SavedState Keeper::savedState() const {
  SavedState out;
  out.program = program_;
  out.socket = socket_;
  out.oomScore = oomScore_;
  out.listener = listener_.get();
  out.lock = lock_.get();
  out.notify = notify_ ? notify_->fd() : -1;
  out.executions = executions_ + 1;
  out.isReadySaid = isReadySaid_;
  for (const auto& [name, kept] : store_.all()) out.kept.push_back({kept.fd.get(), kept.isPolled, name});
  for (const Fd& pipe : pipes_.all()) out.pipes.push_back(pipe.get());
  if (supervisor_) out.daemon = supervisor_->state();
  return out;
}

void Keeper::executeAnew(const std::string& path, Connection* asker) {
  const auto refuse = [&](const std::string& why) {
    log_.say(Level::Error, "keeper is not executed anew: " + why);
    if (asker != nullptr) asker->answer("ERROR=" + why);
  };
  if (isStopping_) return refuse("it is stopping");
  if (supervisor_ && supervisor_->isUpgrading()) return refuse("an upgrade is under way");
  // From here on nothing is closed: its number would be another file's in the new program.
  sweep();
  pipes_.read(log_);
  SavedState state = savedState();
  if (!path.empty()) state.program = path;
  const Fd saved = saveState(state);
  if (!saved.valid()) return refuse(std::string("memory file: ") + ::strerror(errno));
  const std::string wrong = checkProgram(state.program, saved.get());
  if (!wrong.empty()) return refuse(wrong);

  if (asker != nullptr) asker->answer("OK=1");
  if (asker != nullptr) asker->flush(store_);
  log_.flushAll();
  std::vector<int> passed{saved.get(), listener_.get(), lock_.get()};
  if (notify_) passed.push_back(notify_->fd());
  for (const SavedFd& kept : state.kept) passed.push_back(kept.fd);
  for (const int pipe : state.pipes) passed.push_back(pipe);
  for (const int fd : passed) setCloseOnExec(fd, false);
  const std::string number = std::to_string(saved.get());
  const char* words[] = {state.program.c_str(), "--resume", number.c_str(), nullptr};
  ::execv(state.program.c_str(), const_cast<char**>(words));
  const int err = errno;
  for (const int fd : passed) setCloseOnExec(fd, true);
  log_.say(Level::Error, "keeper is not executed anew: " + state.program + ": " + ::strerror(err));
}

}  // namespace peel::keeper
