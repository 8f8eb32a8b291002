// A flat directory of layer streams: what the kernel's EROFS opens as the devices of an image.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>

#include "fuse/filesystem.hpp"

namespace peel::fuse {

class BlobsServer final : public Filesystem {
 public:
  /** How a nodeid is opened never changes: the kernel answers EIO to an inode that is open in both ways. */
  enum class Mode { Undecided, Plain, Passthrough, Removed };
  /** What the kernel may know of a blob: to be kept by whoever will adopt the connection. */
  struct Known {
    uint64_t node;
    Mode mode;
    int32_t backingId;  // with Passthrough; belongs to the connection, not to the process that asked for it
  };

  /**
   * 0, -EEXIST for a name that was ever used, -EINVAL for one that is no file name. `passthrough` asks the kernel to read
   * the data file by itself; only for a complete layer. `node` is one that the connection never had.
   */
  int add(const std::string& name, std::shared_ptr<LayerCache> cache, bool passthrough, uint64_t& node);
  /** A blob of an adopted connection, as the kernel knows it. -EEXIST for a name or node that is there, -EINVAL. */
  int adopt(const std::string& name, std::shared_ptr<LayerCache> cache, const Known& known);
  /** Nodes below `node` are never given to anything new. */
  void skipTo(uint64_t node);
  /** 0 or -ENOENT. */
  int known(const std::string& name, Known& out) const;
  /**
   * 0 or -ENOENT. The name is not there any more and never comes back; reads under way finish, later ones of a file that is
   * still open are ESTALE. `deviceFd` is the connection, -1 when it has ended.
   */
  int remove(int deviceFd, const std::string& name);
  /** Whether the kernel agreed to passthrough at all. */
  bool canPassthrough() const { return canPassthrough_; }

  uint64_t initFlags() const override;
  void onInit(uint64_t flags) override;
  void onEnd() override;
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
  struct Blob {
    std::string name;
    std::shared_ptr<LayerCache> cache;
    uint64_t size;  // rounded up to 512
    bool passthrough;
    std::mutex mutex;
    Mode mode = Mode::Undecided;
    int32_t backingId = 0;
  };
  int put(uint64_t node, const std::shared_ptr<Blob>& blob);
  std::shared_ptr<Blob> find(uint64_t node) const;
  void fill(const Blob& blob, uint64_t node, Attr& attr) const;
  void fillRoot(Attr& attr) const;
  void decide(int deviceFd, Blob& blob) const;

  mutable std::shared_mutex mutex_;
  std::map<uint64_t, std::shared_ptr<Blob>> blobs_;
  std::unordered_map<std::string, uint64_t> nodes_;  // also of those that were removed
  uint64_t next_ = kRootId + 1;
  int64_t changedSec_ = 0;
  uint32_t changedNs_ = 0;
  std::atomic<bool> canPassthrough_{false};
};

}  // namespace peel::fuse
