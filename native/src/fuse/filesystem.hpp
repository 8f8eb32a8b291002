// What a session serves. Handlers return 0 or a positive errno, never wait, and may run on any number of threads at once.
#pragma once
#include <string>
#include <string_view>

#include "fuse/abi.hpp"
#include "fuse/dir_buffer.hpp"
#include "fuse/read_plan.hpp"

namespace peel::fuse {

/** Seconds; the kernel clamps it to the longest it knows. What is immutable is asked for once. */
inline constexpr uint64_t kForever = 0x3fffffff;

class Filesystem {
 public:
  virtual ~Filesystem() = default;

  /** INIT flags to ask for besides those of every session. */
  virtual uint64_t initFlags() const = 0;
  /** Called once, before any other handler, with the flags that both sides have. */
  virtual void onInit(uint64_t flags) = 0;
  /** Called once, after every other handler: the session has ended, and whoever still has the filesystem must not hold the layers. */
  virtual void onEnd() {}

  /** An entry with nodeid 0 is a name that is known not to exist, cached for its `entryValid`. */
  virtual int lookup(uint64_t parent, std::string_view name, EntryOut& out) = 0;
  virtual int getattr(uint64_t node, AttrOut& out) = 0;
  virtual int readlink(uint64_t node, std::string_view& target) = 0;
  virtual int readdir(uint64_t node, uint64_t offset, DirBuffer& out) = 0;
  virtual int getxattr(uint64_t node, std::string_view name, std::string_view& value) = 0;
  /** NUL-terminated names, one after the other. `tid` is the thread that asks, as far as it can be seen. */
  virtual int listxattr(uint64_t node, uint32_t tid, std::string& names) = 0;
  /** ENOSYS: the kernel opens files by itself from then on. */
  virtual int open(int deviceFd, uint64_t node, OpenOut& out) = 0;
  virtual int read(uint64_t node, uint64_t offset, uint32_t size, ReadPlan& plan) = 0;
  /** SEEK_DATA and SEEK_HOLE. */
  virtual int lseek(uint64_t node, uint64_t offset, uint32_t whence, uint64_t& out) = 0;
  virtual void statfs(Statfs& out) = 0;
};

}  // namespace peel::fuse
