#include "gzip/checkpoint_scan.hpp"

#include <algorithm>
#include <cstring>

namespace peel {
namespace {

// The last 32 KiB of before[0, kWindow) followed by fresh[0, length).
void slide(uint8_t* to, const uint8_t* before, const uint8_t* fresh, size_t length) {
  const size_t mine = std::min(length, kWindow);
  std::memmove(to, before + mine, kWindow - mine);
  if (mine > 0) std::memcpy(to + kWindow - mine, fresh + length - mine, mine);
}

}  // namespace

CheckpointScan::CheckpointScan(uint64_t spanSize, InflateBackend backend)
    : spanSize_(spanSize), inflater_(makeMemberInflater(backend)), history_(new uint8_t[kWindow]()) {}

void CheckpointScan::feed(const uint8_t* bytes, size_t length) {
  end_ = bytes + length;
  left_ = length;
  if (state_ == State::Inflating) inflater_->feed(bytes, length);
}

ScanStatus CheckpointScan::run(uint8_t* out, size_t capacity, size_t& produced) {
  using Event = MemberInflater::Event;
  produced = 0;
  ScanStatus result = ScanStatus::OutputFull;
  while (produced < capacity && result == ScanStatus::OutputFull) {
    if (state_ != State::Inflating) {
      result = between();
      if (result != ScanStatus::OutputFull) break;
    }
    size_t fresh = 0;
    const Event event = inflater_->run(out + produced, capacity - produced, fresh);
    out_ += fresh;
    produced += fresh;
    in_ += left_ - inflater_->left();
    left_ = inflater_->left();
    if (event == Event::MemberEnd) state_ = State::Between;
    if (event == Event::NeedInput) result = ScanStatus::NeedInput;
    if (event == Event::Bad) result = ScanStatus::BadData;
    if (event == Event::Boundary) note(out, produced);
  }
  remember(out, produced);
  return result;
}

void CheckpointScan::note(const uint8_t* out, size_t fresh) {
  if (!checkpoints_.empty()) {
    // The rule alone would repeat offset 0 after an empty first member or block, and its own reader refuses that.
    if (out_ - checkpoints_.back().out <= spanSize_) return;
  } else if (out_ != 0) {
    return;
  }
  checkpoints_.push_back({in_, out_, inflater_->bits()});
  inflater_->quietUntil(out_ > UINT64_MAX - spanSize_ ? UINT64_MAX : out_ + spanSize_);
  std::shared_ptr<uint8_t[]> window(new uint8_t[kWindow]);
  slide(window.get(), history_.get(), out, fresh);
  windows_.push_back(std::move(window));
}

void CheckpointScan::remember(const uint8_t* out, size_t produced) {
  if (produced > 0) slide(history_.get(), history_.get(), out, produced);
}

// Behind a trailer. OutputFull here means: another member begins, go on.
ScanStatus CheckpointScan::between() {
  if (left_ == 0) return ScanStatus::NeedInput;
  const uint8_t first = *(end_ - left_);
  if (state_ == State::Between && first != 0) {
    if (first != 0x1f) return ScanStatus::TrailingGarbage;
    inflater_->begin();
    inflater_->feed(end_ - left_, left_);
    state_ = State::Inflating;
    return ScanStatus::OutputFull;
  }
  state_ = State::Padding;
  for (; left_ > 0; left_--, in_++) {
    if (*(end_ - left_) != 0) return ScanStatus::TrailingGarbage;
  }
  return ScanStatus::NeedInput;
}

}  // namespace peel
