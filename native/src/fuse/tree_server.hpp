// A whole image, served from its mapped tree.erofs: no memory per file, nothing to look up anywhere else.
//
// nodeid = slot << 40 | EROFS nid, except the root, which the protocol numbers 1. st_ino is the nid alone: 32-bit programs
// get EOVERFLOW from larger numbers.
#pragma once
#include <memory>
#include <vector>

#include "fuse/filesystem.hpp"
#include "tree/image.hpp"

namespace peel::fuse {

class TreeServer final : public Filesystem {
 public:
  /** `caches[i]` is the image's device i + 1. -EINVAL when their number differs from the image's devices. */
  static int create(std::unique_ptr<erofs::Image> image, std::vector<std::shared_ptr<LayerCache>> caches,
                    std::shared_ptr<TreeServer>& out);

  uint64_t initFlags() const override;
  void onInit(uint64_t flags) override;
  int lookup(uint64_t parent, std::string_view name, EntryOut& out) override;
  int getattr(uint64_t node, AttrOut& out) override;
  int readlink(uint64_t node, std::string_view& target) override;
  int readdir(uint64_t node, uint64_t offset, DirBuffer& out) override;
  int getxattr(uint64_t node, std::string_view name, std::string_view& value) override;
  int listxattr(uint64_t node, uint32_t tid, std::string& names) override;
  int open(int deviceFd, uint64_t node, OpenOut& out) override;
  int read(uint64_t node, uint64_t offset, uint32_t size, ReadPlan& plan) override;
  int lseek(uint64_t node, uint64_t offset, uint32_t whence, uint64_t& out) override;
  void statfs(Statfs& out) override;

 private:
  TreeServer(std::unique_ptr<erofs::Image> image, std::vector<std::shared_ptr<LayerCache>> caches)
      : image_(std::move(image)), caches_(std::move(caches)) {}
  int inodeOf(uint64_t node, erofs::Inode& out) const;
  uint64_t nodeOf(uint64_t nid) const;
  int fillEntry(uint64_t nid, EntryOut& out) const;
  void fillAttr(const erofs::Inode& inode, Attr& attr) const;
  int addExtent(const erofs::Extent& extent, ReadPlan& plan, uint32_t at) const;

  std::unique_ptr<erofs::Image> image_;
  std::vector<std::shared_ptr<LayerCache>> caches_;
};

}  // namespace peel::fuse
