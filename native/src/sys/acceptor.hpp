#pragma once
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "sys/fd.hpp"

namespace peel {

// Takes connections from a listening unix socket, also when the process or the system may open no more files: a few file
// descriptors are kept for that. When those are in use as well, whoever connects waits.
class Acceptor {
 public:
  static constexpr size_t kSpares = 4;

  // Called on a thread of the acceptor's; the receiver owns the fd, which does not block.
  using OnConnection = std::function<void(Fd connection)>;

  // 0 or -errno. Takes the socket over in any case.
  int start(Fd listening, OnConnection onConnection);
  // Nothing is called any more when it returns. Idempotent. Not from the callback.
  void stop();
  ~Acceptor() { stop(); }

 private:
  void work();
  bool acceptOne();
  void keepSpares();

  Fd listening_, stop_;
  OnConnection onConnection_;
  std::vector<Fd> spares_;
  std::thread thread_;
};

}  // namespace peel
