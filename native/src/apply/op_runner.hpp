#pragma once
#include <atomic>
#include <cstdint>
#include <set>
#include <string>

#include "apply/attribute_setter.hpp"
#include "apply/layer_streams.hpp"
#include "apply/op_reader.hpp"
#include "apply/parent_cache.hpp"
#include "sys/fd.hpp"

namespace peel {

// Does one operation after the other beneath one directory; of one thread.
class OpRunner {
 public:
  OpRunner(Fd root, Ownership ownership, LayerStreams& streams, const std::atomic<bool>& stop)
      : root_(std::move(root)), parents_(root_.get()), ownership_(ownership), attributes_(ownership), streams_(streams), stop_(stop) {}

  // 0 or -errno, and then `step` is what failed of it: "chmod". ECANCELED once stopped.
  int run(const Op& op, std::string& step);

  // After the last operation: closes the directories.
  void release() {
    parents_.clear();
    root_ = Fd();
  }

  uint64_t skippedDevices() const { return skippedDevices_.load(std::memory_order_relaxed); }
  uint64_t skippedXattrs() const { return attributes_.skippedXattrs(); }

 private:
  int mkdir(const Op& op);
  int file(const Op& op, std::string& step);
  int symlink(const Op& op, std::string& step);
  int node(const Op& op, std::string& step);
  int link(const Op& op);
  int remove(const Op& op);
  int describe(const Op& op, std::string& step);
  int skipDevice(std::string_view path);
  bool forgetSkipped(std::string_view path);

  Fd root_;
  ParentCache parents_;
  const Ownership ownership_;
  AttributeSetter attributes_;
  LayerStreams& streams_;
  const std::atomic<bool>& stop_;
  // Names that are not there although an operation made them.
  std::set<std::string, std::less<>> skipped_;
  std::atomic<uint64_t> skippedDevices_{0};
};

}  // namespace peel
