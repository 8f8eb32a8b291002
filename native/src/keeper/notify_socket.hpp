// Where the daemon says how it is (sd_notify(3)); what concerns whoever started the keeper is passed on.
#pragma once
#include <sys/types.h>

#include <string>

#include "sys/fd.hpp"

namespace peel::keeper {

struct Notice {
  bool isReady = false;
  /** A sign of life for the watchdog. */
  bool isAlive = false;
  /** Lines for who started the keeper; empty: none. */
  std::string forward;
};

class NotifySocket {
 public:
  NotifySocket(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  /** 0 or -errno. What is there is replaced: the caller holds the lock of this place. */
  static int open(const std::string& path, Fd& out);
  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }
  /** False when nothing has come. Only process `pid` is listened to. */
  bool receive(pid_t pid, Notice& out);

 private:
  std::string path_;
  Fd fd_;
};

/** A unix socket at a path, for its owner only (0600). 0 or -errno. */
int bindPrivate(const std::string& path, int type, Fd& out);

}  // namespace peel::keeper
