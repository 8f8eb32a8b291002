#include "gzip/isal_block_inflater.hpp"
#include "gzip/member_inflater.hpp"

#ifdef PEEL_ISAL

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace peel {
namespace {

constexpr int kGzipOnly = 31;
constexpr int kAtBlockBoundary = 128;  // of z_stream::data_type
constexpr size_t kTrailer = 8;

uint32_t little32(const uint8_t* bytes) {
  return bytes[0] | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 | uint32_t{bytes[3]} << 24;
}

// Headers are left to zlib: it takes them in pieces of any size, checks their CRC, and both refuse the same ones then.
class IsalMemberInflater final : public MemberInflater {
 public:
  IsalMemberInflater() {
    // Fails only without memory, as `new` would.
    if (inflateInit2(&header_, kGzipOnly) != Z_OK) throw std::bad_alloc();
  }
  ~IsalMemberInflater() override { inflateEnd(&header_); }

  void begin() override {
    inflateReset2(&header_, kGzipOnly);
    part_ = Part::Header;
  }

  void feed(const uint8_t* bytes, size_t length) override {
    end_ = bytes + length;
    left_ = length;
    if (part_ == Part::Blocks) blocks_.feed(bytes, length);
  }

  void quietUntil(uint64_t out) override { blocks_.quietUntil(out); }

  Event run(uint8_t* out, size_t capacity, size_t& produced) override {
    produced = 0;
    switch (part_) {
      case Part::Header: return header();
      case Part::Blocks: return blocks(out, capacity, produced);
      default: return trailer();
    }
  }

  size_t left() const override { return left_; }
  uint8_t bits() const override { return bits_; }

 private:
  enum class Part : uint8_t { Header, Blocks, Trailer };

  Event header() {
    uint8_t unused;
    header_.next_in = const_cast<Bytef*>(end_ - left_);
    header_.avail_in = static_cast<uInt>(left_);
    header_.next_out = &unused;
    header_.avail_out = 1;
    const int status = inflate(&header_, Z_BLOCK);
    left_ = header_.avail_in;
    if (status == Z_BUF_ERROR) return Event::NeedInput;
    if (status != Z_OK) return Event::Bad;
    if (!(header_.data_type & kAtBlockBoundary)) return Event::NeedInput;
    part_ = Part::Blocks;
    bits_ = 0;
    blocks_.begin();
    blocks_.feed(end_ - left_, left_);
    return Event::Boundary;
  }

  Event blocks(uint8_t* out, size_t capacity, size_t& produced) {
    const auto event = blocks_.run(out, capacity, produced);
    left_ = blocks_.left();
    bits_ = blocks_.bits();
    switch (event) {
      case IsalBlockInflater::Event::OutputFull: return Event::OutputFull;
      case IsalBlockInflater::Event::NeedInput: return Event::NeedInput;
      case IsalBlockInflater::Event::Boundary: return Event::Boundary;
      case IsalBlockInflater::Event::End: break;
      default: return Event::Bad;
    }
    part_ = Part::Trailer;
    known_ = 0;
    return trailer();
  }

  Event trailer() {
    const size_t length = std::min(kTrailer - known_, left_);
    if (length > 0) std::memcpy(trailer_ + known_, end_ - left_, length);
    known_ += length;
    left_ -= length;
    if (known_ < kTrailer) return Event::NeedInput;
    const bool right = little32(trailer_) == blocks_.crc() && little32(trailer_ + 4) == blocks_.length();
    return right ? Event::MemberEnd : Event::Bad;
  }

  Part part_ = Part::Header;
  z_stream header_{};
  IsalBlockInflater blocks_;
  const uint8_t* end_ = nullptr;  // of the input
  size_t left_ = 0;
  uint8_t bits_ = 0;
  uint8_t trailer_[kTrailer];
  size_t known_ = 0;  // bytes of the trailer
};

}  // namespace

std::unique_ptr<MemberInflater> makeIsalMemberInflater() { return std::make_unique<IsalMemberInflater>(); }

}  // namespace peel

#else

namespace peel {

std::unique_ptr<MemberInflater> makeIsalMemberInflater() { return nullptr; }

}  // namespace peel

#endif
