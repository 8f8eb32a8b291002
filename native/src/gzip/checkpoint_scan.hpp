#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "gzip/member_inflater.hpp"

namespace peel {

constexpr size_t kWindow = 32768;

// A place where inflating can start again, by the rule of SOCI's zinfo: at the first block of the stream and at every
// block boundary more than `spanSize` bytes after the one before.
struct Checkpoint {
  uint64_t in = 0;   // blob offset of the first byte that is wholly behind the boundary
  uint64_t out = 0;  // stream offset
  uint8_t bits = 0;  // high bits of blob byte in-1 that belong to the next block
};

// One of the finer table. A member's first block becomes one when more than `fineSpanSize` bytes came since the one
// before, a block in the middle of a member when as much came since the start of the member, too: members of up to that
// size are never cut.
struct FineCheckpoint {
  Checkpoint at;
  std::unique_ptr<uint8_t[]> window;  // as of CheckpointScan::window; null at the start of a member, which needs none
};

enum class ScanStatus : uint8_t { NeedInput, OutputFull, BadData, TrailingGarbage };

// Inflates a gzip blob of any number of members once, front to back, noting checkpoints on the way.
class CheckpointScan {
 public:
  // fineSpanSize 0: without the finer table.
  explicit CheckpointScan(uint64_t spanSize, InflateBackend backend = inflateBackend(), uint64_t fineSpanSize = 0);
  CheckpointScan(const CheckpointScan&) = delete;
  CheckpointScan& operator=(const CheckpointScan&) = delete;

  // The next blob bytes; not copied. Only after NeedInput or at the start.
  void feed(const uint8_t* bytes, size_t length);
  // The stream goes to `out`, in order. An error is final.
  ScanStatus run(uint8_t* out, size_t capacity, size_t& produced);

  uint64_t consumed() const { return in_; }
  uint64_t produced() const { return out_; }
  // Whether the blob may end here: behind a member's trailer or in the padding after it.
  bool atEnd() const { return state_ == State::Between || state_ == State::Padding; }

  const std::vector<Checkpoint>& checkpoints() const { return checkpoints_; }
  // The 32 KiB of stream before checkpoint i, oldest first, zeros where the stream had not begun.
  const std::shared_ptr<const uint8_t[]>& window(size_t i) const { return windows_[i]; }
  // Those of the finer table that were noted since the last call.
  std::vector<FineCheckpoint> takeFine() { return std::exchange(fine_, {}); }

 private:
  enum class State : uint8_t { Inflating, Between, Padding };
  void note(const uint8_t* out, size_t fresh);
  bool due() const;
  bool fineDue(bool first) const;
  uint64_t quiet() const;
  void remember(const uint8_t* out, size_t produced);
  ScanStatus between();

  const uint64_t spanSize_;
  const uint64_t fineSpanSize_;
  const std::unique_ptr<MemberInflater> inflater_;
  State state_ = State::Inflating;
  const uint8_t* end_ = nullptr;  // of the bytes fed last
  size_t left_ = 0;               // of them
  uint64_t in_ = 0;
  uint64_t out_ = 0;
  std::vector<Checkpoint> checkpoints_;
  std::vector<std::shared_ptr<const uint8_t[]>> windows_;
  bool memberBegins_ = true;  // the next boundary is a member's first
  uint64_t memberOut_ = 0;    // where the member's first block begins in the stream
  bool fineBegan_ = false;
  uint64_t fineOut_ = 0;  // the last fine checkpoint
  std::vector<FineCheckpoint> fine_;
  std::unique_ptr<uint8_t[]> history_;  // the last 32 KiB before the current output buffer
};

}  // namespace peel
