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

uint64_t saturatingSum(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

}  // namespace

CheckpointScan::CheckpointScan(uint64_t spanSize, InflateBackend backend, uint64_t fineSpanSize)
    : spanSize_(spanSize),
      fineSpanSize_(fineSpanSize),
      inflater_(makeMemberInflater(backend)),
      history_(new uint8_t[kWindow]()) {}

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
  const bool first = std::exchange(memberBegins_, false);
  if (first) memberOut_ = out_;
  const Checkpoint here{in_, out_, inflater_->bits()};
  const auto windowHere = [&] {
    std::unique_ptr<uint8_t[]> window(new uint8_t[kWindow]);
    slide(window.get(), history_.get(), out, fresh);
    return window;
  };
  if (due()) {
    checkpoints_.push_back(here);
    windows_.push_back(windowHere());
  }
  if (fineSpanSize_ > 0 && fineDue(first)) {
    fineBegan_ = true;
    fineOut_ = out_;
    fine_.push_back({here, first ? nullptr : windowHere()});
  }
  inflater_->quietUntil(quiet());
}

bool CheckpointScan::due() const {
  // The rule alone would repeat offset 0 after an empty first member or block, and its own reader refuses that.
  return checkpoints_.empty() ? out_ == 0 : out_ - checkpoints_.back().out > spanSize_;
}

bool CheckpointScan::fineDue(bool first) const {
  if (!fineBegan_) return true;
  return out_ - fineOut_ > fineSpanSize_ && (first || out_ - memberOut_ > fineSpanSize_);
}

uint64_t CheckpointScan::quiet() const {
  const uint64_t coarse = saturatingSum(checkpoints_.back().out, spanSize_);
  if (fineSpanSize_ == 0) return coarse;
  return std::min(coarse, saturatingSum(std::max(fineOut_, memberOut_), fineSpanSize_));
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
    memberBegins_ = true;
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
