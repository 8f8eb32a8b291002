// One client: at most one request at a time, and its answers, as fast as the client takes them.
#pragma once
#include <deque>
#include <string>

#include "keeper/fd_store.hpp"
#include "sys/fd.hpp"
#include "sys/fd_message.hpp"

namespace peel::keeper {

class Connection {
 public:
  Connection(Fd socket, uint64_t id) : id_(id), socket_(std::move(socket)) {}

  uint64_t id() const { return id_; }
  int fd() const { return socket_.get(); }
  bool isClosed() const { return !socket_.valid(); }
  /** What poll(2) shall wait for: answers that are due come before the next request. */
  short events() const;

  /** A message to be answered came: true, and `problem` says what was wrong with it, if anything. */
  bool receive(FdMessage& out, std::string& problem);
  void answer(std::string text) { due_.push_back({std::move(text), {}}); }
  void answerFd(const std::string& name, bool isPolled) { due_.push_back({"FDNAME=" + name + (isPolled ? "" : "\nFDPOLL=0"), name}); }
  /** From here until its answer nothing else is read from it. */
  void wait() { isWaiting_ = true; }
  void finish(std::string text);
  /** For a client that waits for an answer, or has to take some. */
  void closeIfGone();
  /** Sends what can be sent without waiting. An fd that was removed meanwhile is left out. */
  void flush(const FdStore& store);

 private:
  struct Due {
    std::string text;
    std::string name;  // empty: no fd
  };

  const uint64_t id_;
  Fd socket_;
  bool isWaiting_ = false;
  std::deque<Due> due_;
};

/** Whether the client is root, or who runs the keeper. */
bool isTrusted(int socket);

}  // namespace peel::keeper
