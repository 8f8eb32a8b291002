#include "fuse/session.hpp"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <chrono>
#include <new>
#include <system_error>

#include "fuse/backing.hpp"
#include "fuse/reply.hpp"
#include "sys/poison.hpp"

namespace peel::fuse {
namespace {

/** What the kernel needs at least; requests are small because INIT asks for writes of 4096 bytes. */
constexpr size_t kRequestBuffer = 8192 + 4096;

/** Ends a blocking read(2) of a thread that shall stop. A real-time signal that Node and libuv leave alone. */
int wakeSignal() { return SIGRTMIN + 9; }

std::string operationName(Opcode opcode) {
  switch (opcode) {
    case Opcode::kLookup: return "lookup";
    case Opcode::kGetattr: return "getattr";
    case Opcode::kRead: return "read";
    case Opcode::kReaddir:
    case Opcode::kReaddirplus: return "readdir";
    case Opcode::kReadlink: return "readlink";
    case Opcode::kGetxattr:
    case Opcode::kListxattr: return "getxattr";
    default: return "request " + std::to_string(static_cast<uint32_t>(opcode));
  }
}

void installWakeSignal() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  // Without SA_RESTART: the read must come back with EINTR.
  ::sigaction(wakeSignal(), &action, nullptr);
}

}  // namespace

Session::Session(Options options) : options_(std::move(options)), fd_(options_.fd) {
  ParkedReads::Hooks hooks;
  hooks.onAnswer = [this](const ReadRequest&, size_t bytes) {
    stats_.reads.fetch_add(1, std::memory_order_relaxed);
    stats_.readBytes.fetch_add(bytes, std::memory_order_relaxed);
  };
  hooks.onError = [this](const ReadRequest& read, int err) { report(Opcode::kRead, read.node, read.offset, err); };
  parked_ = std::make_shared<ParkedReads>(fd_.get(), std::move(hooks));
  watch_ = std::make_unique<InterruptWatch>(parked_);
  installWakeSignal();
  if (!options_.adoption) {
    if (const int err = startThreads()) {
      reason_ = std::string("no thread can be started: ") + ::strerror(err);
      started_ = true;
      finish();
    }
    return;
  }
  agreed_ = options_.adoption->flags;
  if (agreed_ != 0) options_.filesystem->onInit(agreed_);
}

/** 0, or an errno when not a single one could be started. Fewer than were asked for serve as well. */
int Session::startThreads() {
  const unsigned threads = options_.threads == 0 ? 1 : options_.threads;
  std::lock_guard lock(mutex_);
  threads_.reserve(threads);
  for (unsigned i = 0; i < threads; ++i) {
    try {
      threads_.emplace_back([this, i] { work(i); });
    } catch (const std::system_error& error) {
      if (threads_.empty()) return error.code().value();
      break;
    }
    ++running_;
  }
  started_ = true;
  return 0;
}

int Session::start() {
  // Before anything is read: what this process has taken itself must neither be sent again nor failed.
  if (!options_.adoption->resend || notifyResend(fd()) == EINVAL) failOrphans();
  return startThreads();
}

Session::~Session() {
  stop();
  join();
}

void Session::stop() { stopping_.store(true); }

void Session::leave() {
  leaving_.store(true);
  stop();
}

void Session::join() {
  std::unique_lock lock(mutex_);
  if (!started_) {
    started_ = true;
    lock.unlock();
    finish();
    return;
  }
  while (!finished_) {
    // A thread between its look at stopping_ and its read(2) misses one signal, so they are repeated until all are out.
    if (stopping_.load()) wakeThreads();
    ended_.wait_for(lock, std::chrono::milliseconds(stopping_.load() ? 2 : 50), [this] { return finished_; });
  }
  std::vector<std::thread> threads = std::move(threads_);
  threads_.clear();
  lock.unlock();
  for (std::thread& thread : threads) thread.join();
}

void Session::work(unsigned index) {
  sigset_t mask;
  ::sigfillset(&mask);
  ::sigdelset(&mask, wakeSignal());
  ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  ::pthread_setname_np(::pthread_self(), "peel-fuse");

  alignas(8) uint8_t buffer[kRequestBuffer];
  std::shared_ptr<PendingRead> spare;
  bool aborted = false;
  while (!stopping_.load(std::memory_order_relaxed)) {
    const ssize_t size = ::read(fd(), buffer, sizeof buffer);
    if (size < 0) {
      // ENOENT: the request was interrupted before it could be read.
      if (errno == EINTR || errno == EAGAIN || errno == ENOENT) continue;
      // A request that was on its way while the filesystem was unmounted: the next read(2) tells how it ended.
      if (errno == ECONNABORTED && !aborted) {
        aborted = true;
        continue;
      }
      endWith(errno == ENODEV ? "unmounted" : errno == ECONNABORTED ? "aborted" : ::strerror(errno));
      break;
    }
    Request request;
    if (size == 0 || !Request::parse(buffer, static_cast<size_t>(size), request)) {
      endWith(size == 0 ? "unmounted" : "message of the wrong length");
      break;
    }
    const PoisonedRest rest(buffer, static_cast<size_t>(size), sizeof buffer);
    if (options_.taken) options_.taken->take(index, request.unique());
    try {
      if (!handle(request, spare)) break;
    } catch (const std::bad_alloc&) {
      // It may be parked all the same: the kernel takes the first answer.
      spare.reset();
      replyError(fd(), request.unique(), ENOMEM);
    }
  }
  spare.reset();
  std::unique_lock lock(mutex_);
  const bool ender = ender_ == std::this_thread::get_id();
  if (ender) {
    // A broken connection wakes the others by itself; a DESTROY or a malformed message does not.
    while (running_ > 1) {
      wakeThreads();
      ended_.wait_for(lock, std::chrono::milliseconds(2));
    }
  }
  if (--running_ > 0) {
    ended_.notify_all();
    return;
  }
  lock.unlock();
  finish();
}

void Session::wakeThreads() {
  for (std::thread& thread : threads_) ::pthread_kill(thread.native_handle(), wakeSignal());
}

void Session::endWith(const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (ender_ != std::thread::id() || stopping_.load()) return;
  ender_ = std::this_thread::get_id();
  reason_ = reason;
  stopping_.store(true);
}

void Session::finish() {
  watch_->stop();
  if (orphans_.joinable()) orphans_.join();
  if (leaving_.load()) {
    parked_->abandon();
  } else {
    parked_->drain(ENOTCONN);
  }
  if (options_.filesystem) options_.filesystem->onEnd();
  // Whoever holds the session for its numbers must not hold the layers.
  options_.filesystem.reset();
  std::string reason;
  {
    std::lock_guard lock(mutex_);
    fd_.reset();
    reason = !reason_.empty() ? reason_ : leaving_.load() ? "left" : "stopped";
  }
  if (options_.onClosed) options_.onClosed(reason);
  std::lock_guard lock(mutex_);
  finished_ = true;
  ended_.notify_all();
}

int Session::tryBacking(int fileFd) {
  std::lock_guard lock(mutex_);
  if (!fd_.valid()) return ENOTCONN;
  if ((agreed_.load() & init_flag::kPassthrough) == 0) return EOPNOTSUPP;
  const int id = openBacking(fd(), fileFd);
  if (id < 0) return -id;
  closeBacking(fd(), id);
  return 0;
}

int Session::withDevice(const std::function<int(int fd)>& use) {
  std::lock_guard lock(mutex_);
  return use(fd_.valid() ? fd() : -1);
}

void Session::report(Opcode opcode, uint64_t node, uint64_t offset, int err) {
  stats_.errors.fetch_add(1, std::memory_order_relaxed);
  if (!options_.onError) return;
  const char* name = ::strerrorname_np(err);
  options_.onError(operationName(opcode) + " of node " + std::to_string(node) + " at " + std::to_string(offset) +
                   " answered " + (name != nullptr ? name : std::to_string(err)));
}

}  // namespace peel::fuse
