// The requests that are served: check the message, ask the filesystem, answer in the one shape that fits.
#include <errno.h>

#include "fuse/reply.hpp"
#include "fuse/session.hpp"

namespace peel::fuse {
namespace {

/** More than any kernel asks for at once; a larger size is a broken message. */
constexpr uint32_t kLargestRead = 16u << 20;

}  // namespace

void Session::lookup(const Request& request) {
  std::string_view name;
  if (!request.name(0, name)) return fail(request, EPROTO);
  stats_.lookups.fetch_add(1, std::memory_order_relaxed);
  EntryOut entry{};
  if (const int err = options_.filesystem->lookup(request.node(), name, entry)) return fail(request, err);
  replyEntry(fd(), request.unique(), entry);
}

void Session::getattr(const Request& request) {
  GetattrIn in;
  if (!request.args(in)) return fail(request, EPROTO);
  AttrOut attr{};
  if (const int err = options_.filesystem->getattr(request.node(), attr)) return fail(request, err);
  replyAttr(fd(), request.unique(), attr);
}

void Session::readlink(const Request& request) {
  std::string_view target;
  if (const int err = options_.filesystem->readlink(request.node(), target)) return fail(request, err);
  replyData(fd(), request.unique(), target.data(), target.size());
}

void Session::read(const Request& request, std::shared_ptr<PendingRead>& spare) {
  ReadIn in;
  if (!request.args(in) || in.size > kLargestRead) return fail(request, EPROTO);
  if (!spare) spare = std::make_shared<PendingRead>(parked_);
  spare->request = ReadRequest{request.unique(), request.node(), in.offset, request.header().pid};
  spare->plan.clear();
  if (const int err = options_.filesystem->read(request.node(), in.offset, in.size, spare->plan)) {
    return fail(request, err);
  }
  if (parked_->start(spare)) {
    stats_.parked.fetch_add(1, std::memory_order_relaxed);
    spare.reset();
  }
}

void Session::readdir(const Request& request, bool plus) {
  ReadIn in;
  if (!request.args(in) || in.size > kLargestRead) return fail(request, EPROTO);
  DirBuffer buffer(in.size, plus);
  if (const int err = options_.filesystem->readdir(request.node(), in.offset, buffer)) return fail(request, err);
  replyData(fd(), request.unique(), buffer.data(), buffer.size());
}

void Session::getxattr(const Request& request) {
  XattrSize in;
  std::string_view name;
  if (!request.args(in) || !request.name(sizeof in, name)) return fail(request, EPROTO);
  std::string_view value;
  if (const int err = options_.filesystem->getxattr(request.node(), name, value)) return fail(request, err);
  replyXattr(request, in.size, value);
}

void Session::listxattr(const Request& request) {
  XattrSize in;
  if (!request.args(in)) return fail(request, EPROTO);
  std::string names;
  const uint32_t tid = request.header().pid;
  if (const int err = options_.filesystem->listxattr(request.node(), tid, names)) return fail(request, err);
  replyXattr(request, in.size, names);
}

void Session::replyXattr(const Request& request, uint32_t limit, std::string_view value) {
  if (limit == 0) {
    replyXattrSize(fd(), request.unique(), static_cast<uint32_t>(value.size()));
  } else if (value.size() > limit) {
    replyError(fd(), request.unique(), ERANGE);
  } else {
    replyData(fd(), request.unique(), value.data(), value.size());
  }
}

void Session::open(const Request& request) {
  OpenIn in;
  if (!request.args(in)) return fail(request, EPROTO);
  OpenOut out{};
  if (const int err = options_.filesystem->open(fd(), request.node(), out)) return fail(request, err);
  replyOpen(fd(), request.unique(), out);
}

void Session::statfs(const Request& request) {
  Statfs out{};
  options_.filesystem->statfs(out);
  // A name length of 0 makes an overlay on top answer ENAMETOOLONG to every lookup.
  out.namelen = 255;
  replyStatfs(fd(), request.unique(), out);
}

void Session::lseek(const Request& request) {
  LseekIn in;
  if (!request.args(in)) return fail(request, EPROTO);
  LseekOut out{};
  if (const int err = options_.filesystem->lseek(request.node(), in.offset, in.whence, out.offset)) {
    return fail(request, err);
  }
  replyLseek(fd(), request.unique(), out);
}

void Session::interrupt(const Request& request) {
  InterruptIn in;
  if (!request.args(in)) return;
  const uint64_t unique = in.unique & ~kInterruptBit;
  switch (parked_->interrupt(unique)) {
    // Not parked (yet): EAGAIN has the kernel send the INTERRUPT again for as long as the request lives.
    case ParkedReads::Interrupt::Unknown: replyError(fd(), request.unique(), EAGAIN); return;
    case ParkedReads::Interrupt::Waiting: watch_->add(unique); return;
    case ParkedReads::Interrupt::Answered: return;
  }
}

}  // namespace peel::fuse
