#include "gzip/inflater.hpp"

#ifdef PEEL_ISAL

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>

#include <algorithm>

namespace peel {
namespace {

// ISA-L counts in 32 bits.
constexpr size_t kFeed = size_t{1} << 30;

class IsalInflater final : public Inflater {
 public:
  void start(const uint8_t* input, size_t size, uint8_t bits, const uint8_t* window, size_t windowSize) override {
    isal_inflate_init(&state_);
    begin_ = input;
    state_.next_in = const_cast<uint8_t*>(input);
    state_.avail_in = 0;
    left_ = size;
    if (bits != 0) {
      state_.read_in = input[0] >> (8 - bits);
      state_.read_in_length = bits;
      state_.next_in++;
      left_--;
    }
    if (windowSize > 0) {
      isal_inflate_set_dict(&state_, const_cast<uint8_t*>(window), static_cast<uint32_t>(windowSize));
    }
  }

  Status run(uint8_t* out, size_t capacity, size_t& produced) override {
    if (state_.avail_in == 0) {
      state_.avail_in = static_cast<uint32_t>(std::min(left_, kFeed));
      left_ -= state_.avail_in;
    }
    const uint32_t before = state_.avail_in;
    const uint32_t room = static_cast<uint32_t>(std::min(capacity, kFeed));
    state_.next_out = out;
    state_.avail_out = room;
    int status = isal_inflate(&state_);
    produced = room - state_.avail_out;
    if (status < 0) return Status::Bad;
    if (state_.block_state == ISAL_BLOCK_FINISH) return Status::End;
    if (produced > 0 || state_.avail_in != before || left_ > 0) return Status::More;
    return Status::Starved;
  }

  // Whole bytes that it read ahead were not used.
  size_t consumed() const override {
    return static_cast<size_t>(state_.next_in - begin_) - static_cast<size_t>(state_.read_in_length) / 8;
  }

 private:
  inflate_state state_;
  const uint8_t* begin_ = nullptr;
  size_t left_ = 0;  // input that ISA-L has not been shown yet
};

}  // namespace

std::unique_ptr<Inflater> makeIsalInflater() { return std::make_unique<IsalInflater>(); }

uint32_t gzipCrc(uint32_t crc, const uint8_t* bytes, size_t length) {
  return crc32_gzip_refl(crc, const_cast<uint8_t*>(bytes), length);
}

}  // namespace peel

#else

#include <zlib.h>

#include <algorithm>

namespace peel {

std::unique_ptr<Inflater> makeIsalInflater() { return nullptr; }

uint32_t gzipCrc(uint32_t crc, const uint8_t* bytes, size_t length) {
  constexpr size_t kFeed = size_t{1} << 30;
  while (length > 0) {
    const size_t n = std::min(length, kFeed);
    crc = static_cast<uint32_t>(crc32(crc, bytes, static_cast<uInt>(n)));
    bytes += n;
    length -= n;
  }
  return crc;
}

}  // namespace peel

#endif
