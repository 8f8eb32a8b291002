#include "fuse/blobs_server.hpp"

#include <errno.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "fuse/backing.hpp"

namespace peel::fuse {
namespace {

/** EROFS counts the devices in blocks of 512: the last one must be there in full, or its read is EIO. */
uint64_t roundUp(uint64_t size) { return (size + 511) & ~uint64_t{511}; }

bool isFileName(const std::string& name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

}  // namespace

int BlobsServer::add(const std::string& name, std::shared_ptr<LayerCache> cache, bool passthrough, uint64_t& node) {
  if (!isFileName(name) || (passthrough && !cache->complete())) return -EINVAL;
  auto blob = std::make_shared<Blob>();
  blob->name = name;
  blob->size = roundUp(cache->streamSize());
  blob->cache = std::move(cache);
  blob->passthrough = passthrough;
  std::unique_lock lock(mutex_);
  node = next_;
  return put(node, blob);
}

int BlobsServer::adopt(const std::string& name, std::shared_ptr<LayerCache> cache, const Known& known) {
  const bool isPassthrough = known.mode == Mode::Passthrough;
  if (!isFileName(name) || known.node <= kRootId || known.mode == Mode::Removed ||
      isPassthrough != (known.backingId > 0)) {
    return -EINVAL;
  }
  auto blob = std::make_shared<Blob>();
  blob->name = name;
  blob->size = roundUp(cache->streamSize());
  blob->cache = std::move(cache);
  blob->passthrough = isPassthrough;
  blob->mode = known.mode;
  blob->backingId = known.backingId;
  std::unique_lock lock(mutex_);
  return put(known.node, blob);
}

/** With the mutex held. */
int BlobsServer::put(uint64_t node, const std::shared_ptr<Blob>& blob) {
  if (blobs_.contains(node) || !nodes_.emplace(blob->name, node).second) return -EEXIST;
  blobs_.emplace(node, blob);
  next_ = std::max(next_, node + 1);
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  // The root's listing is cached by the kernel; a new mtime is what makes it ask again.
  changedSec_ = now.tv_sec;
  changedNs_ = static_cast<uint32_t>(now.tv_nsec);
  return 0;
}

void BlobsServer::skipTo(uint64_t node) {
  std::unique_lock lock(mutex_);
  next_ = std::max(next_, node);
}

int BlobsServer::known(const std::string& name, Known& out) const {
  std::shared_ptr<Blob> blob;
  {
    std::shared_lock lock(mutex_);
    const auto found = nodes_.find(name);
    if (found == nodes_.end()) return -ENOENT;
    out.node = found->second;
  }
  blob = find(out.node);
  if (!blob) return -ENOENT;
  std::lock_guard lock(blob->mutex);
  out.mode = blob->mode;
  out.backingId = blob->backingId;
  return 0;
}

int BlobsServer::remove(int deviceFd, const std::string& name) {
  std::shared_ptr<Blob> blob;
  {
    std::unique_lock lock(mutex_);
    const auto found = nodes_.find(name);
    if (found == nodes_.end()) return -ENOENT;
    const auto there = blobs_.find(found->second);
    if (there == blobs_.end()) return -ENOENT;
    blob = std::move(there->second);
    blobs_.erase(there);
  }
  std::lock_guard lock(blob->mutex);
  // Files that are open keep the backing file by themselves.
  if (blob->mode == Mode::Passthrough && deviceFd >= 0) closeBacking(deviceFd, blob->backingId);
  blob->mode = Mode::Removed;
  return 0;
}

// ASYNC_DIO: EROFS with `directio` keeps several requests going. Not for a tree: a program's own O_DIRECT read would wait
// for it where no signal reaches, SIGKILL included.
uint64_t BlobsServer::initFlags() const { return init_flag::kPassthrough | init_flag::kAsyncDio; }

void BlobsServer::onInit(uint64_t flags) { canPassthrough_ = (flags & init_flag::kPassthrough) != 0; }

void BlobsServer::onEnd() {
  std::unique_lock lock(mutex_);
  for (auto& [node, blob] : blobs_) blob->cache.reset();
}

std::shared_ptr<BlobsServer::Blob> BlobsServer::find(uint64_t node) const {
  std::shared_lock lock(mutex_);
  const auto found = blobs_.find(node);
  return found == blobs_.end() ? nullptr : found->second;
}

void BlobsServer::fill(const Blob& blob, uint64_t node, Attr& attr) const {
  attr.ino = node;
  attr.size = blob.size;
  attr.blocks = blob.size / 512;
  attr.mode = S_IFREG | 0400;
  attr.nlink = 1;
  attr.uid = ::geteuid();
  attr.gid = ::getegid();
  attr.blksize = 4096;
}

void BlobsServer::fillRoot(Attr& attr) const {
  std::shared_lock lock(mutex_);
  attr.ino = kRootId;
  attr.mode = S_IFDIR | 0500;
  attr.nlink = 2;
  attr.uid = ::geteuid();
  attr.gid = ::getegid();
  attr.blksize = 4096;
  attr.mtime = attr.ctime = attr.atime = static_cast<uint64_t>(changedSec_);
  attr.mtimeNs = attr.ctimeNs = attr.atimeNs = changedNs_;
}

int BlobsServer::lookup(uint64_t parent, std::string_view name, EntryOut& out) {
  if (parent != kRootId) return ENOTDIR;
  uint64_t node = 0;
  {
    std::shared_lock lock(mutex_);
    const auto found = nodes_.find(std::string(name));
    // Not cached: the name may be added the next moment.
    if (found == nodes_.end()) return ENOENT;
    node = found->second;
  }
  const auto blob = find(node);
  if (!blob) return ENOENT;
  out.nodeid = node;
  // The name may go the next moment; who has the file open does not ask again.
  out.entryValid = 0;
  out.attrValid = kForever;
  fill(*blob, node, out.attr);
  return 0;
}

int BlobsServer::getattr(uint64_t node, AttrOut& out) {
  if (node == kRootId) {
    fillRoot(out.attr);
    return 0;
  }
  const auto blob = find(node);
  if (!blob) return ESTALE;
  out.attrValid = kForever;
  fill(*blob, node, out.attr);
  return 0;
}

int BlobsServer::readlink(uint64_t, std::string_view&) { return EINVAL; }

int BlobsServer::readdir(uint64_t node, uint64_t offset, DirBuffer& out) {
  if (node != kRootId) return ENOTDIR;
  constexpr uint32_t kDir = 4;
  constexpr uint32_t kFile = 8;
  const EntryOut none{};
  if (offset == 0 && !out.add(".", kRootId, 1, kDir, none)) return 0;
  if (offset <= 1 && !out.add("..", kRootId, 2, kDir, none)) return 0;
  std::shared_lock lock(mutex_);
  for (auto at = blobs_.lower_bound(std::max(offset, kRootId + 1)); at != blobs_.end(); ++at) {
    const auto& [id, blob] = *at;
    EntryOut entry{};
    entry.nodeid = id;
    entry.attrValid = kForever;
    fill(*blob, id, entry.attr);
    if (!out.add(blob->name, id, id + 1, kFile, entry)) return 0;
  }
  return 0;
}

// Never ENOSYS: that would switch xattrs off for the whole connection.
int BlobsServer::getxattr(uint64_t, std::string_view, std::string_view&) { return ENODATA; }
int BlobsServer::listxattr(uint64_t, uint32_t, std::string&) { return 0; }

int BlobsServer::open(int deviceFd, uint64_t node, OpenOut& out) {
  const auto blob = find(node);
  if (!blob) return ESTALE;
  std::lock_guard lock(blob->mutex);
  // Removed since it was found: a backing id made now would never be closed.
  if (blob->mode == Mode::Removed) return ESTALE;
  if (blob->mode == Mode::Undecided) decide(deviceFd, *blob);
  if (blob->mode == Mode::Passthrough) {
    out.openFlags = kOpenPassthrough | kOpenNoFlush;
    out.backingId = blob->backingId;
  } else {
    out.openFlags = kOpenKeepCache | kOpenNoFlush;
  }
  return 0;
}

void BlobsServer::decide(int deviceFd, Blob& blob) const {
  blob.mode = Mode::Plain;
  if (!blob.passthrough || !canPassthrough_) return;
  // The kernel keeps this one open, and the layer pinned with it, until the last file that reads it is closed.
  Fd fd;
  if (blob.cache->openPinned(fd) != 0 || !blob.cache->complete()) return;
  struct stat st;
  if (::fstat(fd.get(), &st) < 0) return;
  // The kernel now sees the file's own end: it must reach to the end of the last block.
  if (static_cast<uint64_t>(st.st_size) < blob.size &&
      ::ftruncate(blob.cache->dataFd(), static_cast<off_t>(blob.size)) < 0) {
    return;
  }
  const int id = openBacking(deviceFd, fd.get());
  // Refused (no CAP_SYS_ADMIN, or a filesystem that is stacked itself): served by us, never an error.
  if (id <= 0) return;
  blob.backingId = id;
  blob.mode = Mode::Passthrough;
}

int BlobsServer::read(uint64_t node, uint64_t offset, uint32_t size, ReadPlan& plan) {
  const auto blob = find(node);
  if (!blob) return ESTALE;
  if (offset >= blob->size) return 0;
  plan.size = static_cast<uint32_t>(std::min<uint64_t>(size, blob->size - offset));
  const uint64_t end = blob->cache->streamSize();
  if (offset >= end || plan.size == 0) return 0;
  const auto length = static_cast<uint32_t>(std::min<uint64_t>(plan.size, end - offset));
  plan.segments.push_back(ReadSegment{0, length, blob->cache, offset, nullptr});
  return 0;
}

int BlobsServer::lseek(uint64_t node, uint64_t offset, uint32_t whence, uint64_t& out) {
  const auto blob = find(node);
  if (!blob) return ESTALE;
  if (offset >= blob->size) return ENXIO;
  out = whence == SEEK_DATA ? offset : blob->size;
  return 0;
}

void BlobsServer::statfs(Statfs& out) {
  std::shared_lock lock(mutex_);
  out.bsize = out.frsize = 512;
  for (const auto& [node, blob] : blobs_) {
    ++out.files;
    out.blocks += blob->size / 512;
  }
}

}  // namespace peel::fuse
