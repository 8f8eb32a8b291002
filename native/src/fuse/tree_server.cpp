#include "fuse/tree_server.hpp"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "sys/thread_status.hpp"

namespace peel::fuse {
namespace {

constexpr unsigned kSlotShift = 40;
/** One image per connection: the slot only keeps its nodeids away from the protocol's root. */
constexpr uint64_t kSlot = 1;
constexpr unsigned kCapSysAdmin = 21;

}  // namespace

int TreeServer::create(std::unique_ptr<erofs::Image> image, std::vector<std::shared_ptr<LayerCache>> caches,
                       std::shared_ptr<TreeServer>& out) {
  if (image->devices() != caches.size()) return -EINVAL;
  out.reset(new TreeServer(std::move(image), std::move(caches)));
  return 0;
}

// POSIX_ACL: the kernel enforces the image's ACLs, as it does for an EROFS mount.
uint64_t TreeServer::initFlags() const {
  return init_flag::kNoOpenSupport | init_flag::kExportSupport | init_flag::kPosixAcl;
}

void TreeServer::onInit(uint64_t) {}

uint64_t TreeServer::nodeOf(uint64_t nid) const {
  return nid == image_->rootNid() ? kRootId : kSlot << kSlotShift | nid;
}

int TreeServer::inodeOf(uint64_t node, erofs::Inode& out) const {
  if (node == kRootId) return -image_->inode(image_->rootNid(), out);
  if (node >> kSlotShift != kSlot) return ESTALE;
  return -image_->inode(node & ((uint64_t{1} << kSlotShift) - 1), out);
}

void TreeServer::fillAttr(const erofs::Inode& inode, Attr& attr) const {
  attr.ino = inode.nid;
  attr.size = inode.isDevice() ? 0 : inode.size;
  // As EROFS in the kernel has it: from the size, holes included.
  attr.blocks = (attr.size + 511) / 512;
  attr.atime = attr.mtime = attr.ctime = static_cast<uint64_t>(inode.mtime);
  attr.atimeNs = attr.mtimeNs = attr.ctimeNs = inode.mtimeNs;
  attr.mode = inode.mode;
  attr.nlink = inode.nlink;
  attr.uid = inode.uid;
  attr.gid = inode.gid;
  attr.rdev = inode.isDevice() ? inode.u : 0;
  attr.blksize = 4096;
}

int TreeServer::fillEntry(uint64_t nid, EntryOut& out) const {
  erofs::Inode inode;
  if (const int err = image_->inode(nid, inode)) return -err;
  out.nodeid = nodeOf(nid);
  out.entryValid = kForever;
  out.attrValid = kForever;
  fillAttr(inode, out.attr);
  return 0;
}

int TreeServer::lookup(uint64_t parent, std::string_view name, EntryOut& out) {
  erofs::Inode dir;
  if (const int err = inodeOf(parent, dir)) return err;
  // From a file handle: the node itself. Its ".." is an entry of the directory like any other.
  if (name == ".") return fillEntry(dir.nid, out);
  uint64_t nid = 0;
  uint8_t type = 0;
  const int err = image_->lookup(dir, name, nid, type);
  if (err == -ENOENT) {
    out.entryValid = kForever;
    return 0;
  }
  return err ? -err : fillEntry(nid, out);
}

int TreeServer::getattr(uint64_t node, AttrOut& out) {
  erofs::Inode inode;
  if (const int err = inodeOf(node, inode)) return err;
  out.attrValid = kForever;
  fillAttr(inode, out.attr);
  return 0;
}

int TreeServer::readlink(uint64_t node, std::string_view& target) {
  erofs::Inode inode;
  if (const int err = inodeOf(node, inode)) return err;
  return -image_->readlink(inode, target);
}

int TreeServer::readdir(uint64_t node, uint64_t offset, DirBuffer& out) {
  erofs::Inode dir;
  if (const int err = inodeOf(node, dir)) return err;
  return -image_->list(dir, offset, [&](const erofs::DirEntry& found) {
    EntryOut entry{};
    // "." and ".." bring no inode. A broken inode is no reason to hide the other names: its own use fails.
    if (out.plus() && found.name != "." && found.name != ".." && fillEntry(found.nid, entry) != 0) entry = EntryOut{};
    return out.add(found.name, found.nid, found.next, found.type, entry);
  });
}

int TreeServer::getxattr(uint64_t node, std::string_view name, std::string_view& value) {
  erofs::Inode inode;
  if (const int err = inodeOf(node, inode)) return err;
  return -image_->getxattr(inode, name, value);
}

int TreeServer::listxattr(uint64_t node, uint32_t tid, std::string& names) {
  erofs::Inode inode;
  if (const int err = inodeOf(node, inode)) return err;
  return -image_->xattrs(inode, [&](std::string_view prefix, std::string_view rest, std::string_view) {
    // Listed for those who may read them. The request does not say who asks: with ALLOW_IDMAP its uid is always -1.
    if (prefix == "trusted." && !threadStatusBit(tid, "CapEff", kCapSysAdmin)) return true;
    names.append(prefix).append(rest).push_back('\0');
    return true;
  });
}

int TreeServer::open(int, uint64_t, OpenOut&) { return ENOSYS; }

int TreeServer::read(uint64_t node, uint64_t offset, uint32_t size, ReadPlan& plan) {
  erofs::Inode inode;
  if (const int err = inodeOf(node, inode)) return err;
  if (!inode.isRegular()) return EINVAL;
  if (offset >= inode.size) return 0;
  plan.size = static_cast<uint32_t>(std::min<uint64_t>(size, inode.size - offset));
  for (uint32_t at = 0; at < plan.size;) {
    erofs::Extent extent;
    if (const int err = image_->extent(inode, offset + at, plan.size - at, extent)) return -err;
    if (const int err = addExtent(extent, plan, at)) return err;
    at += static_cast<uint32_t>(extent.length);
  }
  return 0;
}

int TreeServer::addExtent(const erofs::Extent& extent, ReadPlan& plan, uint32_t at) const {
  const auto length = static_cast<uint32_t>(extent.length);
  if (extent.device < 0) return 0;
  if (extent.device == 0) {
    const uint8_t* bytes = image_->bytes(extent.at, extent.length);
    if (bytes == nullptr) return EUCLEAN;
    plan.segments.push_back(ReadSegment{at, length, nullptr, 0, bytes});
    return 0;
  }
  const std::shared_ptr<LayerCache>& cache = caches_[static_cast<size_t>(extent.device) - 1];
  const uint64_t end = cache->streamSize();
  // A file's bytes end with its size, never in the padding behind the stream.
  if (extent.at > end || extent.length > end - extent.at) return EUCLEAN;
  plan.segments.push_back(ReadSegment{at, length, cache, extent.at, nullptr});
  return 0;
}

int TreeServer::lseek(uint64_t node, uint64_t offset, uint32_t whence, uint64_t& out) {
  erofs::Inode inode;
  if (const int err = inodeOf(node, inode)) return err;
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return EINVAL;
  if (!inode.isRegular()) return EINVAL;
  while (offset < inode.size) {
    erofs::Extent extent;
    if (const int err = image_->extent(inode, offset, inode.size - offset, extent)) return -err;
    const bool hole = extent.device < 0;
    if (hole == (whence == SEEK_HOLE)) {
      out = offset;
      return 0;
    }
    offset += extent.length;
  }
  if (whence == SEEK_DATA) return ENXIO;
  out = inode.size;
  return 0;
}

void TreeServer::statfs(Statfs& out) {
  out.bsize = out.frsize = 4096;
  out.files = image_->inodes();
  for (const auto& cache : caches_) out.blocks += (cache->streamSize() + 4095) / 4096;
}

}  // namespace peel::fuse
