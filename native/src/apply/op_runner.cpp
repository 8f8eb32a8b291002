#include "apply/op_runner.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>

#include "apply/open_beneath.hpp"
#include "apply/remove_tree.hpp"

namespace peel {
namespace {

int result(int value) { return value < 0 ? -errno : 0; }

}  // namespace

int OpRunner::run(const Op& op, std::string& step) {
  switch (op.kind) {
    case OpKind::Mkdir: step = "mkdir"; return mkdir(op);
    case OpKind::File: return file(op, step);
    case OpKind::Symlink: return symlink(op, step);
    case OpKind::Node: return node(op, step);
    case OpKind::Link: step = "link"; return link(op);
    case OpKind::Remove: step = "remove"; return remove(op);
    case OpKind::Describe: return describe(op, step);
  }
  return -EBADMSG;
}

void OpRunner::release() {
  parents_.clear();
  root_.reset();
}

int OpRunner::mkdir(const Op& op) {
  const int parent = parents_.parentOf(op.path);
  return parent < 0 ? parent : result(::mkdirat(parent, nameOf(op.path), 0700));
}

int OpRunner::file(const Op& op, std::string& step) {
  step = "create";
  const int parent = parents_.parentOf(op.path);
  if (parent < 0) return parent;
  Fd fd(::openat(parent, nameOf(op.path), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) return -errno;
  step = "write";
  uint64_t end = 0;
  for (const OpExtent& extent : op.extents) {
    if (const int err = streams_.copy(op.stream, extent, fd.get())) return err;
    if (extent.size > 0) end = std::max(end, extent.fileOffset + extent.size);
  }
  if (end < op.size && ::ftruncate(fd.get(), static_cast<off_t>(op.size)) < 0) return -errno;
  if (const int err = attributes_.ofOpen(fd.get(), op.attributes, step)) return err;
  step = "close";
  return result(::close(fd.release()));
}

int OpRunner::symlink(const Op& op, std::string& step) {
  step = "symlink";
  const int parent = parents_.parentOf(op.path);
  if (parent < 0) return parent;
  if (::symlinkat(op.other.data(), parent, nameOf(op.path)) < 0) return -errno;
  return attributes_.ofName(parent, nameOf(op.path), true, op.attributes, step);
}

int OpRunner::node(const Op& op, std::string& step) {
  // A whiteout is a device that everybody may make, and without it a tree means something else.
  const bool whiteout = op.fileType == S_IFCHR && op.major == 0 && op.minor == 0;
  if (ownership_ == Ownership::Mine && op.fileType != S_IFIFO && !whiteout) return skipDevice(op.path);
  step = "mknod";
  const int parent = parents_.parentOf(op.path);
  if (parent < 0) return parent;
  const dev_t device = op.fileType == S_IFIFO ? 0 : ::makedev(op.major, op.minor);
  if (::mknodat(parent, nameOf(op.path), op.fileType | 0600, device) < 0) return -errno;
  return attributes_.ofName(parent, nameOf(op.path), false, op.attributes, step);
}

int OpRunner::link(const Op& op) {
  if (skipped_.contains(op.other)) return skipDevice(op.path);
  const int from = parents_.parentOf(op.other);
  if (from < 0) return from;
  const int to = parents_.parentOf(op.path);
  return to < 0 ? to : result(::linkat(from, nameOf(op.other), to, nameOf(op.path), 0));
}

int OpRunner::remove(const Op& op) {
  if (forgetSkipped(op.path)) return 0;
  parents_.forget(op.path);
  const int parent = parents_.parentOf(op.path);
  return parent < 0 ? parent : removeTree(parent, nameOf(op.path), stop_);
}

int OpRunner::describe(const Op& op, std::string& step) {
  step = "open";
  int parent = root_.get();
  std::string_view name;
  if (!op.path.empty()) {
    parent = parents_.parentOf(op.path);
    if (parent < 0) return parent;
    name = nameOf(op.path);
  }
  const int fd = openDirectoryBeneath(parent, name, O_RDONLY);
  if (fd < 0) return fd;
  return attributes_.ofOpen(Fd(fd).get(), op.attributes, step);
}

int OpRunner::skipDevice(std::string_view path) {
  skippedDevices_.fetch_add(1, std::memory_order_relaxed);
  skipped_.emplace(path);
  return 0;
}

// Whether `path` itself was skipped; what was beneath it is forgotten in any case.
bool OpRunner::forgetSkipped(std::string_view path) {
  if (skipped_.empty()) return false;
  const std::string below = std::string(path) + '/';
  auto from = skipped_.lower_bound(below), to = from;
  while (to != skipped_.end() && to->starts_with(below)) ++to;
  skipped_.erase(from, to);
  const auto itself = skipped_.find(path);
  if (itself == skipped_.end()) return false;
  skipped_.erase(itself);
  return true;
}

}  // namespace peel
