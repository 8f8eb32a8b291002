#include "gzip/isal_block_inflater.hpp"

#ifdef PEEL_ISAL

#include <algorithm>
#include <cstring>

#include "gzip/inflater.hpp"

namespace peel {
namespace {

constexpr size_t kHistory = ISAL_DEF_HIST_SIZE;
// Decoded at once. Small enough for the second cache, large enough that the copies of the history do not matter.
constexpr size_t kRoom = 8 * kHistory;
// Where ISA-L stops for want of room it decodes one symbol more: a match or some packed literals.
constexpr size_t kOverflow = ISAL_LOOK_AHEAD;

}  // namespace

IsalBlockInflater::IsalBlockInflater() : buffer_(new uint8_t[kHistory + kRoom + kOverflow]) {
  isal_inflate_init(&state_);
}

void IsalBlockInflater::begin() {
  isal_inflate_init(&state_);
  history_ = from_ = to_ = 0;
  event_ = Event::None;
  began_ = out_;
  crc_ = 0;
  held_ = false;
}

void IsalBlockInflater::feed(const uint8_t* bytes, size_t length) {
  state_.next_in = const_cast<uint8_t*>(bytes);
  state_.avail_in = static_cast<uint32_t>(length);
  fed_ = left_ = length;
}

IsalBlockInflater::Event IsalBlockInflater::run(uint8_t* out, size_t capacity, size_t& produced) {
  produced = 0;
  for (;;) {
    const size_t length = std::min(capacity - produced, to_ - from_);
    if (length > 0) std::memcpy(out + produced, buffer_.get() + from_, length);
    from_ += length;
    produced += length;
    if (from_ < to_) return Event::OutputFull;
    if (event_ != Event::None) {
      const Event event = event_;
      if (event != Event::Bad && event != Event::End) event_ = Event::None;
      return event;
    }
    if (produced == capacity) return Event::OutputFull;
    event_ = step();
  }
}

bool IsalBlockInflater::inside() const {
  return state_.block_state == ISAL_BLOCK_TYPE0 || state_.block_state == ISAL_BLOCK_CODED;
}

IsalBlockInflater::Event IsalBlockInflater::step() {
  const uint64_t quiet = quiet_ > out_ ? quiet_ - out_ : 0;
  size_t room = kRoom;
  if (quiet >= kHistory) {
    room = static_cast<size_t>(std::min<uint64_t>(room, quiet));
  } else if (!inside()) {
    // Without room it stops behind the first symbol that writes. Empty blocks are passed over, and their boundaries are
    // as quiet as this one.
    room = 0;
  } else if (!held_) {
    held_ = true;
    wasFinal_ = state_.bfinal;
    state_.bfinal = 1;
  }
  const auto state = state_.block_state;
  const uint32_t input = state_.avail_in;
  load(room);
  const int status = isal_inflate(&state_);
  const size_t fresh = collect();
  left_ = std::min(fed_, state_.avail_in + static_cast<size_t>(state_.read_in_length) / 8);
  if (status < 0) return Event::Bad;
  if (fresh > 0 || state_.block_state != state || state_.avail_in != input) return where();
  if (input > 0) return Event::Bad;
  left_ = 0;
  return Event::NeedInput;
}

// ISA-L would first fill its own buffer and run ahead of what it was given room for. When that buffer is full, of
// history that it believes to owe us, it hands this out and then decodes right behind. What it writes beyond its room
// refers to its own copy of the history, which is right if the room was none or at least a whole history.
void IsalBlockInflater::load(size_t room) {
  const size_t kept = std::min(kHistory, to_);
  if (kept > 0) std::memcpy(state_.tmp_out_buffer + 2 * kHistory - kept, buffer_.get() + to_ - kept, kept);
  history_ = kept;
  state_.tmp_out_valid = 2 * kHistory;
  state_.tmp_out_processed = static_cast<int32_t>(2 * kHistory - kept);
  // Counts in 32 bits, and only to see whether a distance reaches back too far.
  state_.total_out = 0;
  state_.dict_length = 0;
  state_.next_out = buffer_.get();
  state_.avail_out = static_cast<uint32_t>(kept + room);
}

// Everything decoded is in buffer_ then; how much is new.
size_t IsalBlockInflater::collect() {
  uint8_t* end = state_.next_out;
  const size_t over = static_cast<size_t>(state_.tmp_out_valid - state_.tmp_out_processed);
  std::memcpy(end, state_.tmp_out_buffer + state_.tmp_out_processed, over);
  from_ = history_;
  to_ = static_cast<size_t>(end - buffer_.get()) + over;
  const size_t fresh = to_ - from_;
  crc_ = gzipCrc(crc_, buffer_.get() + from_, fresh);
  out_ += fresh;
  return fresh;
}

IsalBlockInflater::Event IsalBlockInflater::where() {
  if (state_.block_state == ISAL_BLOCK_INPUT_DONE || state_.block_state == ISAL_BLOCK_FINISH) {
    if (held_) state_.bfinal = wasFinal_;
    held_ = false;
    if (state_.bfinal) return Event::End;
    state_.block_state = ISAL_BLOCK_NEW_HDR;
  }
  return state_.block_state == ISAL_BLOCK_NEW_HDR && out_ > quiet_ ? Event::Boundary : Event::None;
}

}  // namespace peel

#endif
