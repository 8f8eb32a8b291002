// One connection to the kernel: N threads that read requests from one fd and answer them. No JavaScript, no event loop.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "fuse/filesystem.hpp"
#include "fuse/interrupt_watch.hpp"
#include "fuse/parked_reads.hpp"
#include "fuse/request.hpp"
#include "fuse/taken_requests.hpp"
#include "sys/fd.hpp"

namespace peel::fuse {

struct SessionStats {
  std::atomic<uint64_t> lookups{0};
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> readBytes{0};
  std::atomic<uint64_t> parked{0};  // reads that had to wait, ever
  std::atomic<uint64_t> errors{0};  // reads and lookups answered with an error that is ours (EIO, EUCLEAN, …)
};

/** A connection that another process has served before. */
struct Adoption {
  uint64_t flags;  // that INIT agreed on; 0 when it had not come yet
  /** False: what the other process left unanswered is answered with EIO, as it is by a kernel that cannot send it again. */
  bool resend;
};

class Session {
 public:
  struct Options {
    int fd;  // owned from here on
    unsigned threads;
    /** With it, nothing is read before start(). */
    std::optional<Adoption> adoption;
    /** Where it is kept how far requests were taken; may be null. */
    std::unique_ptr<TakenRequests> taken;
    std::shared_ptr<Filesystem> filesystem;
    /** Called once, from a thread of the session, after the last answer; the fd is closed by then. */
    std::function<void(const std::string& reason)> onClosed;
    /** One sentence per request that was answered with an error of ours. Any thread. */
    std::function<void(const std::string& message)> onError;
  };
  explicit Session(Options options);
  /** Stops, and waits for it. */
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /** Of an adopted connection, once: serves, and sees to what was left unanswered. 0, or an errno when no thread can be started: leave() then. */
  int start();
  /** Asks the threads to end; onClosed follows. Reads that wait are answered ENOTCONN. */
  void stop();
  /** The same without an answer: for a connection whose fd somebody else holds as well. */
  void leave();
  /** Waits for the end; not from a thread of the session. */
  void join();

  const SessionStats& stats() const { return stats_; }
  /** INIT flags that both sides have; 0 before INIT. */
  uint64_t agreed() const { return agreed_.load(); }
  /** Whether the kernel would take the open file for passthrough: 0 or an errno, EOPNOTSUPP when it does not know it. */
  int tryBacking(int fileFd);
  /** Calls `use` with the connection, which stays open meanwhile; -1 when it has ended. `use` must not wait for a request. */
  int withDevice(const std::function<int(int fd)>& use);
  size_t waiting() const { return parked_->size(); }

 private:
  int startThreads();
  void work(unsigned index);
  void finish();
  void failOrphans();
  bool handle(const Request& request, std::shared_ptr<PendingRead>& spare);
  void init(const Request& request);
  void lookup(const Request& request);
  void getattr(const Request& request);
  void readlink(const Request& request);
  void read(const Request& request, std::shared_ptr<PendingRead>& spare);
  void readdir(const Request& request, bool plus);
  void getxattr(const Request& request);
  void listxattr(const Request& request);
  void open(const Request& request);
  void statfs(const Request& request);
  void lseek(const Request& request);
  void interrupt(const Request& request);
  void replyXattr(const Request& request, uint32_t limit, std::string_view value);
  void fail(const Request& request, int err);
  void report(Opcode opcode, uint64_t node, uint64_t offset, int err);
  void endWith(const std::string& reason);
  void wakeThreads();
  int fd() const { return fd_.get(); }

  Options options_;
  Fd fd_;
  SessionStats stats_;
  std::atomic<uint64_t> agreed_{0};  // INIT flags
  std::shared_ptr<ParkedReads> parked_;
  std::unique_ptr<InterruptWatch> watch_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable ended_;
  std::vector<std::thread> threads_;
  bool started_ = false;
  size_t running_ = 0;
  bool finished_ = false;
  std::thread::id ender_;  // the thread that saw the connection end
  std::string reason_;
  std::thread orphans_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> leaving_{false};
};

}  // namespace peel::fuse
