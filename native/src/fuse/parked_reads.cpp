#include "fuse/parked_reads.hpp"

#include <errno.h>

#include <algorithm>
#include <new>
#include <vector>

#include "fuse/reply.hpp"
#include "sys/thread_status.hpp"

namespace peel::fuse {
namespace {

/** The disk fails, is written again and fails again; then the bytes come from memory. */
constexpr int kMostDistrusts = 3;

/** One buffer per thread that answers reads; grows to the largest answer, 1 MiB at most in practice. Null when there is no memory. */
uint8_t* answerBuffer(size_t size) {
  thread_local std::vector<uint8_t> buffer;
  try {
    if (buffer.size() < size || buffer.empty()) buffer.resize(std::max<size_t>(size, 1));
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  return buffer.data();
}

}  // namespace

PendingRead::Progress PendingRead::advance(int& err) {
  while (next_ < plan.segments.size()) {
    ReadSegment& segment = plan.segments[next_];
    if (segment.cache) {
      segment.generation = segment.cache->generation();
      // From the moment ensure() parks, another thread may own this object: nothing below may touch it then.
      self_ = shared_from_this();
      const int state = segment.cache->ensure(segment.streamOffset, segment.length, this);
      if (state == 1) return Progress::Parked;
      self_.reset();
      if (state < 0) {
        err = -state;
        return Progress::Failed;
      }
    }
    ++next_;
  }
  return Progress::Ready;
}

PendingRead::Progress PendingRead::gather(int& err) {
  for (;;) {
    const Progress progress = advance(err);
    if (progress != Progress::Ready) return progress;
    uint8_t* const buffer = answerBuffer(plan.size);
    if (buffer == nullptr) {
      err = ENOMEM;
      return Progress::Failed;
    }
    err = collect(plan, buffer);
    if (err == ENODATA) {
      // What was missing is not present any more, and is waited for.
      err = 0;
      next_ = 0;
      continue;
    }
    if (err) {
      if (distrusts_ == kMostDistrusts || !distrust(plan)) return Progress::Failed;
      ++distrusts_;
      next_ = 0;
      continue;
    }
    if (isCurrent(plan)) return Progress::Ready;
    next_ = 0;
  }
}

void PendingRead::resume(int err) {
  const std::shared_ptr<PendingRead> self = std::move(self_);
  if (err == 0) {
    {
      std::lock_guard lock(home_->mutex_);
      if (done_) return;
    }
    if (gather(err) == Progress::Parked) {
      // An INTERRUPT or the end of the session may have claimed it meanwhile, when there was nothing to cancel yet.
      std::unique_lock lock(home_->mutex_);
      if (!done_) return;
      lock.unlock();
      cancel();
      return;
    }
  }
  if (home_->claim(*this)) home_->answer(*this, err);
}

void PendingRead::cancel() {
  for (const ReadSegment& segment : plan.segments) {
    // True: no resume() will come, so the reference kept for it is dropped here.
    if (segment.cache && segment.cache->cancel(this)) self_.reset();
  }
}

bool ParkedReads::start(const std::shared_ptr<PendingRead>& read) {
  read->next_ = 0;
  read->distrusts_ = 0;
  read->done_ = false;
  read->listed_ = false;
  int err = 0;
  if (read->gather(err) == PendingRead::Progress::Parked) {
    list(read);
    return true;
  }
  if (claim(*read)) answer(*read, err);
  return false;
}

void ParkedReads::list(const std::shared_ptr<PendingRead>& read) {
  std::lock_guard lock(mutex_);
  // The span may have come, and the read been answered, before we got here.
  if (read->done_) return;
  read->listed_ = true;
  reads_[read->request.unique] = read;
}

bool ParkedReads::claim(PendingRead& read) {
  std::lock_guard lock(mutex_);
  if (read.done_ || closed_) return false;
  read.done_ = true;
  if (read.listed_) reads_.erase(read.request.unique);
  ++answering_;
  return true;
}

void ParkedReads::release() {
  std::lock_guard lock(mutex_);
  if (--answering_ == 0) idle_.notify_all();
}

void ParkedReads::answer(PendingRead& read, int err) {
  const uint32_t size = read.plan.size;
  // Kept for the next request, it must not keep the layer; and not after the answer, when somebody may want to remove it.
  read.plan.clear();
  if (err == 0) {
    const uint8_t* buffer = answerBuffer(size);
    hooks_.onAnswer(read.request, size);
    replyData(fd_, read.request.unique, buffer, size);
  } else {
    hooks_.onError(read.request, err);
    replyError(fd_, read.request.unique, err);
  }
  release();
}

ParkedReads::Interrupt ParkedReads::interrupt(uint64_t unique) {
  std::shared_ptr<PendingRead> read;
  {
    std::lock_guard lock(mutex_);
    const auto found = reads_.find(unique);
    if (found == reads_.end()) return Interrupt::Unknown;
    read = found->second;
  }
  // INTERRUPT comes for every signal; EINTR for a timer's would reach programs that asked for SA_RESTART.
  if (!killPending(read->request.pid)) return Interrupt::Waiting;
  if (claim(*read)) {
    replyError(fd_, unique, EINTR);
    release();
    read->cancel();
  }
  return Interrupt::Answered;
}

void ParkedReads::drain(int err) {
  end([this, err](uint64_t unique) { replyError(fd_, unique, err); });
}

void ParkedReads::abandon() {
  end([](uint64_t) {});
}

void ParkedReads::end(const std::function<void(uint64_t unique)>& reply) {
  std::unordered_map<uint64_t, std::shared_ptr<PendingRead>> left;
  {
    std::lock_guard lock(mutex_);
    left = reads_;
  }
  for (const auto& [unique, read] : left) {
    if (claim(*read)) {
      reply(unique);
      release();
    }
    read->cancel();
  }
  std::unique_lock lock(mutex_);
  closed_ = true;
  idle_.wait(lock, [this] { return answering_ == 0; });
}

size_t ParkedReads::size() const {
  std::lock_guard lock(mutex_);
  return reads_.size();
}

bool killPending(uint32_t tid) {
  constexpr unsigned kSigkill = 9;
  return threadStatusBit(tid, "SigPnd", kSigkill - 1);
}

}  // namespace peel::fuse
