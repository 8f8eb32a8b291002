// READs that wait for spans. A worker thread never waits: it leaves the read here and serves the next request; the thread
// that brings the span answers.
//
// Every read is answered exactly once, by whoever claims it first: the thread that resumed it, an INTERRUPT, or the end of
// the session. A read that lost the claim may still be parked in a cache; it holds what it needs and drops itself there.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "fuse/read_plan.hpp"

namespace peel::fuse {

class ParkedReads;

struct ReadRequest {
  uint64_t unique = 0;
  uint64_t node = 0;
  uint64_t offset = 0;
  uint32_t pid = 0;
};

class PendingRead final : public SpanWaiter, public std::enable_shared_from_this<PendingRead> {
 public:
  explicit PendingRead(std::shared_ptr<ParkedReads> home) : home_(std::move(home)) {}
  void resume(int err) override;

  ReadRequest request;
  ReadPlan plan;

 private:
  friend class ParkedReads;
  enum class Progress { Ready, Parked, Failed };
  Progress advance(int& err);
  /** advance(), and when Ready the answer in this thread's buffer, which nothing evicted meanwhile has spoilt. */
  Progress gather(int& err);
  void cancel();

  std::shared_ptr<ParkedReads> home_;
  std::shared_ptr<PendingRead> self_;  // set while a cache holds the bare pointer
  size_t next_ = 0;
  int distrusts_ = 0;
  bool done_ = false;    // guarded by the home's mutex
  bool listed_ = false;  // likewise
};

class ParkedReads : public std::enable_shared_from_this<ParkedReads> {
 public:
  struct Hooks {
    std::function<void(const ReadRequest&, size_t bytes)> onAnswer;  // a successful read
    std::function<void(const ReadRequest&, int err)> onError;
  };
  ParkedReads(int fd, Hooks hooks) : fd_(fd), hooks_(std::move(hooks)) {}

  /** Answers now when every span is present, else parks; true: `read` was parked and must not be used again. */
  bool start(const std::shared_ptr<PendingRead>& read);

  enum class Interrupt { Unknown, Waiting, Answered };
  /** Answers EINTR when the reading thread is about to be killed; any other signal leaves it waiting. */
  Interrupt interrupt(uint64_t unique);

  /** Answers everything with `err` and returns when nobody uses the fd any more. */
  void drain(int err);
  /** The same without an answer: whoever has the connection next is asked again. */
  void abandon();
  size_t size() const;

 private:
  friend class PendingRead;
  bool claim(PendingRead& read);
  void release();
  /** With err 0: what this thread gathered. */
  void answer(PendingRead& read, int err);
  void list(const std::shared_ptr<PendingRead>& read);
  void end(const std::function<void(uint64_t unique)>& reply);

  const int fd_;
  const Hooks hooks_;
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::unordered_map<uint64_t, std::shared_ptr<PendingRead>> reads_;
  size_t answering_ = 0;
  bool closed_ = false;
};

/** True when SIGKILL is pending for the thread; false when that cannot be told, since waiting is never wrong. */
bool killPending(uint32_t tid);

}  // namespace peel::fuse
