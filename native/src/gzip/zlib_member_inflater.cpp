#include <zlib.h>

#include <algorithm>
#include <new>

#include "gzip/member_inflater.hpp"

namespace peel {
namespace {

constexpr int kGzipOnly = 31;

// Bits of z_stream::data_type after inflate(Z_BLOCK), as zlib.h documents them.
constexpr int kAtBlockBoundary = 128, kAfterLastBlock = 64, kUnusedBits = 7;

class ZlibMemberInflater final : public MemberInflater {
 public:
  ZlibMemberInflater() {
    // Fails only without memory, as `new` would.
    if (inflateInit2(&stream_, kGzipOnly) != Z_OK) throw std::bad_alloc();
  }
  ~ZlibMemberInflater() override { inflateEnd(&stream_); }

  void begin() override { inflateReset2(&stream_, kGzipOnly); }

  void feed(const uint8_t* bytes, size_t length) override {
    stream_.next_in = const_cast<Bytef*>(bytes);
    stream_.avail_in = static_cast<uInt>(length);
  }

  void quietUntil(uint64_t) override {}

  Event run(uint8_t* out, size_t capacity, size_t& produced) override {
    produced = 0;
    while (produced < capacity) {
      const uInt room = static_cast<uInt>(std::min<size_t>(capacity - produced, size_t{1} << 30));
      stream_.next_out = out + produced;
      stream_.avail_out = room;
      const int status = inflate(&stream_, Z_BLOCK);
      produced += room - stream_.avail_out;
      if (status == Z_STREAM_END) return Event::MemberEnd;
      if (status == Z_BUF_ERROR) return Event::NeedInput;
      if (status != Z_OK) return Event::Bad;
      if ((stream_.data_type & kAtBlockBoundary) && !(stream_.data_type & kAfterLastBlock)) return Event::Boundary;
    }
    return Event::OutputFull;
  }

  size_t left() const override { return stream_.avail_in; }
  uint8_t bits() const override { return static_cast<uint8_t>(stream_.data_type & kUnusedBits); }

 private:
  z_stream stream_{};
};

}  // namespace

std::unique_ptr<MemberInflater> makeZlibMemberInflater() { return std::make_unique<ZlibMemberInflater>(); }

std::unique_ptr<MemberInflater> makeMemberInflater(InflateBackend backend) {
  return backend == InflateBackend::Isal ? makeIsalMemberInflater() : makeZlibMemberInflater();
}

}  // namespace peel
