#pragma once
#ifdef PEEL_ISAL
#include <isa-l/igzip_lib.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace peel {

// Raw DEFLATE by ISA-L, which has no way to stop at the end of a block other than the last: a block to stop at is told
// to be the last one while it is decoded.
class IsalBlockInflater {
 public:
  enum class Event : uint8_t { None, OutputFull, NeedInput, Boundary, End, Bad };

  IsalBlockInflater();
  // A stream begins at the next byte that is fed.
  void begin();
  // The next input, below 4 GiB; not copied.
  void feed(const uint8_t* bytes, size_t length);
  // Boundaries where at most `out` bytes of all streams came before are passed over.
  void quietUntil(uint64_t out) { quiet_ = out; }
  Event run(uint8_t* out, size_t capacity, size_t& produced);

  // Input bytes that were not used; after End the trailer begins there.
  size_t left() const { return left_; }
  // At a boundary: high bits of the byte before that belong to the next block.
  uint8_t bits() const { return static_cast<uint8_t>(state_.read_in_length & 7); }
  // Of the stream that began last.
  uint32_t crc() const { return crc_; }
  uint32_t length() const { return static_cast<uint32_t>(out_ - began_); }

 private:
  Event step();
  void load(size_t room);
  size_t collect();
  Event where();
  bool inside() const;

  inflate_state state_;
  std::unique_ptr<uint8_t[]> buffer_;  // what back references may reach, then what was decoded last
  size_t history_ = 0;                 // bytes of the former
  size_t from_ = 0, to_ = 0;           // of the latter, what nobody took yet
  Event event_ = Event::None;          // comes behind those
  size_t fed_ = 0;
  size_t left_ = 0;
  uint64_t began_ = 0;  // `out_` at the begin of this stream
  uint64_t out_ = 0;    // decoded bytes
  uint64_t quiet_ = 0;
  uint32_t crc_ = 0;
  bool held_ = false;       // the block is told to be the last
  uint32_t wasFinal_ = 0;   // whether it truly is, when held
};

}  // namespace peel
#endif
