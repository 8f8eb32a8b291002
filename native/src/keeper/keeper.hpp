// The process, put together: a socket, what is kept, and, where the keeper has one, the daemon.
#pragma once
#include <poll.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "keeper/connection.hpp"
#include "keeper/fd_store.hpp"
#include "keeper/log.hpp"
#include "keeper/log_pipes.hpp"
#include "keeper/notify_socket.hpp"
#include "keeper/saved_state.hpp"
#include "keeper/supervisor.hpp"

namespace peel::keeper {

class Keeper {
 public:
  /** `signals`: a signalfd. Takes over the file descriptors of the state. */
  Keeper(SavedState state, Fd signals, size_t limit);

  /** Until it is told to stop: the exit code. */
  int run();

 private:
  void wait(std::vector<pollfd>& entries);
  void onSignals();
  void reap();
  void accept();
  void serve(Connection& connection);
  void obey(Connection& connection, FdMessage& message);
  void upgrade(Connection& connection, const Request& request);
  void readNotices();
  void sweep();
  void tellManager(const std::string& text);
  void tellAlive(int64_t nowNs);
  std::string status() const;
  /** Returns only when it failed, which `asker`, if any, is told. */
  void executeAnew(const std::string& path, Connection* asker);
  SavedState savedState() const;

  Log log_;
  LogPipes pipes_;
  FdStore store_;
  const std::string program_, file_, socket_, oomScore_;
  const Fd signals_, listener_, lock_;
  uint64_t executions_;
  bool isReadySaid_;
  std::optional<NotifySocket> notify_;
  std::optional<Supervisor> supervisor_;
  std::vector<std::unique_ptr<Connection>> connections_;
  uint64_t nextId_ = 1;
  int64_t sweepNs_ = 0;
  /** What the service manager allows between two signs of life; 0: it wants none. */
  const int64_t watchdogNs_;
  int64_t aliveNs_ = 0;
  bool isStopping_ = false;
};

}  // namespace peel::keeper
