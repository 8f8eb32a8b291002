#include "apply/tree_writer.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>

#include "sys/display_bytes.hpp"

namespace peel {
namespace {

int checkEmpty(int dir) {
  const int fd = ::openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  DIR* const list = ::fdopendir(fd);
  if (!list) {
    const int err = errno;
    ::close(fd);
    return -err;
  }
  int names = 0;
  errno = 0;
  while (names < 3 && ::readdir(list)) names++;
  const int err = names > 2 ? ENOTEMPTY : errno;
  ::closedir(list);
  return -err;
}

std::string describe(const Op& op, const std::string& step) {
  const std::string path = '\'' + displayBytes(op.path) + '\'';
  if (op.kind == OpKind::Link) return step + " '" + displayBytes(op.other) + "' as " + path;
  return step + ' ' + path;
}

}  // namespace

int TreeWriter::open(const std::string& dir, Ownership ownership, std::shared_ptr<TreeWriter>& out) {
  Fd root(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!root.valid()) return -errno;
  if (const int err = checkEmpty(root.get())) return err;
  // What is made inside inherits these, and the tree's own attributes come later.
  for (const char* list : {"system.posix_acl_default", "system.posix_acl_access"}) {
    if (::fremovexattr(root.get(), list) < 0 && errno != ENODATA && errno != EOPNOTSUPP) return -errno;
  }
  out = std::make_shared<TreeWriter>(std::move(root), ownership);
  return 0;
}

TreeWriter::TreeWriter(Fd root, Ownership ownership) : runner_(std::move(root), ownership, streams_, stop_) {
  // Signals are for the JavaScript thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { work(); });
  pthread_setname_np(thread_.native_handle(), "peel-tree");
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TreeWriter::~TreeWriter() { close(); }

void TreeWriter::submit(std::vector<uint8_t> ops) {
  {
    std::lock_guard lock(mutex_);
    batches_.push_back(std::move(ops));
    submitted_++;
  }
  changed_.notify_all();
}

void TreeWriter::finish(std::function<void(const Failure&)> done) {
  Failure failure;
  {
    std::lock_guard lock(mutex_);
    if (!ended_ && failure_.err == 0 && finished_ < submitted_) {
      waiters_.push_back({submitted_, std::move(done)});
      return;
    }
    failure = failure_;
    if (failure.err == 0 && finished_ < submitted_) failure.err = ECANCELED;
  }
  done(failure);
}

TreeWriter::Failure TreeWriter::failure() {
  std::lock_guard lock(mutex_);
  return failure_;
}

bool TreeWriter::closed() { return stop_; }

void TreeWriter::stop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  streams_.stop();
}

void TreeWriter::close() {
  stop();
  std::lock_guard lock(joining_);
  if (thread_.joinable()) thread_.join();
}

void TreeWriter::work() {
  for (;;) {
    std::vector<uint8_t> batch;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stop_ || (!batches_.empty() && failure_.err == 0); });
      if (stop_) break;
      batch = std::move(batches_.front());
      batches_.pop_front();
    }
    Failure failure = runBatch(batch);
    if (stop_) break;
    std::vector<Waiter> answered;
    {
      std::lock_guard lock(mutex_);
      finished_++;
      failure_ = failure;
      answered = settled();
    }
    for (const Waiter& waiter : answered) waiter.done(failure);
  }
  // Counts may be asked for as long as somebody likes.
  runner_.release();
  streams_.release();
  std::vector<Waiter> left;
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    left.swap(waiters_);
  }
  for (const Waiter& waiter : left) waiter.done({ECANCELED, ""});
}

// Waiters whose answer is known, with the lock held.
std::vector<TreeWriter::Waiter> TreeWriter::settled() {
  std::vector<Waiter> answered;
  size_t count = 0;
  while (count < waiters_.size() && (failure_.err != 0 || waiters_[count].batches <= finished_)) count++;
  const auto end = waiters_.begin() + static_cast<ptrdiff_t>(count);
  answered.assign(std::make_move_iterator(waiters_.begin()), std::make_move_iterator(end));
  waiters_.erase(waiters_.begin(), end);
  return answered;
}

TreeWriter::Failure TreeWriter::runBatch(const std::vector<uint8_t>& batch) {
  OpReader reader(batch.data(), batch.size());
  Op op;
  std::string step;
  while (!reader.atEnd()) {
    if (stop_) return {};
    step = "read the operation on";
    int err = reader.next(op);
    if (err == 0) err = runner_.run(op, step);
    if (err != 0) return {-err, describe(op, step)};
    ops_.fetch_add(1, std::memory_order_relaxed);
  }
  return {};
}

}  // namespace peel
