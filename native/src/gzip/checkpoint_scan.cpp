#include "gzip/checkpoint_scan.hpp"

#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace peel {
namespace {

constexpr int kGzipOnly = 31;

// Bits of z_stream::data_type after inflate(Z_BLOCK), as zlib.h documents them.
constexpr int kAtBlockBoundary = 128, kAfterLastBlock = 64, kUnusedBits = 7;

// The last 32 KiB of before[0, kWindow) followed by fresh[0, length).
void slide(uint8_t* to, const uint8_t* before, const uint8_t* fresh, size_t length) {
  const size_t mine = std::min(length, kWindow);
  std::memmove(to, before + mine, kWindow - mine);
  if (mine > 0) std::memcpy(to + kWindow - mine, fresh + length - mine, mine);
}

}  // namespace

CheckpointScan::CheckpointScan(uint64_t spanSize)
    : spanSize_(spanSize), stream_(new z_stream{}), history_(new uint8_t[kWindow]()) {
  if (inflateInit2(stream_.get(), kGzipOnly) != Z_OK) std::abort();
}

CheckpointScan::~CheckpointScan() { inflateEnd(stream_.get()); }

void CheckpointScan::feed(const uint8_t* bytes, size_t length) {
  stream_->next_in = const_cast<Bytef*>(bytes);
  stream_->avail_in = static_cast<uInt>(length);
}

ScanStatus CheckpointScan::run(uint8_t* out, size_t capacity, size_t& produced) {
  produced = 0;
  ScanStatus result = ScanStatus::OutputFull;
  while (produced < capacity) {
    if (state_ != State::Inflating) {
      result = between();
      if (result != ScanStatus::OutputFull) break;
    }
    const uInt inBefore = stream_->avail_in;
    const uInt room = static_cast<uInt>(std::min<size_t>(capacity - produced, size_t{1} << 30));
    stream_->next_out = out + produced;
    stream_->avail_out = room;
    const int status = inflate(stream_.get(), Z_BLOCK);
    in_ += inBefore - stream_->avail_in;
    out_ += room - stream_->avail_out;
    produced += room - stream_->avail_out;
    if (status == Z_STREAM_END) {
      state_ = State::Between;
      continue;
    }
    if (status == Z_BUF_ERROR) {
      result = ScanStatus::NeedInput;
      break;
    }
    if (status != Z_OK) {
      result = ScanStatus::BadData;
      break;
    }
    if ((stream_->data_type & kAtBlockBoundary) && !(stream_->data_type & kAfterLastBlock)) note(out, produced);
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
  checkpoints_.push_back({in_, out_, static_cast<uint8_t>(stream_->data_type & kUnusedBits)});
  std::shared_ptr<uint8_t[]> window(new uint8_t[kWindow]);
  slide(window.get(), history_.get(), out, fresh);
  windows_.push_back(std::move(window));
}

void CheckpointScan::remember(const uint8_t* out, size_t produced) {
  if (produced > 0) slide(history_.get(), history_.get(), out, produced);
}

// Behind a trailer. OutputFull here means: another member begins, go on.
ScanStatus CheckpointScan::between() {
  if (stream_->avail_in == 0) return ScanStatus::NeedInput;
  if (state_ == State::Between && *stream_->next_in != 0) {
    if (*stream_->next_in != 0x1f) return ScanStatus::TrailingGarbage;
    inflateReset2(stream_.get(), kGzipOnly);
    state_ = State::Inflating;
    return ScanStatus::OutputFull;
  }
  state_ = State::Padding;
  for (; stream_->avail_in > 0; stream_->avail_in--, stream_->next_in++, in_++) {
    if (*stream_->next_in != 0) return ScanStatus::TrailingGarbage;
  }
  return ScanStatus::NeedInput;
}

}  // namespace peel
