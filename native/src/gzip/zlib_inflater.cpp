#include <zlib.h>

#include <algorithm>
#include <new>

#include "gzip/inflater.hpp"

namespace peel {
namespace {

// zlib counts in 32 bits.
constexpr size_t kFeed = size_t{1} << 30;

class ZlibInflater final : public Inflater {
 public:
  ZlibInflater() {
    // Fails only without memory, as `new` would.
    if (inflateInit2(&stream_, -15) != Z_OK) throw std::bad_alloc();
  }
  ~ZlibInflater() override { inflateEnd(&stream_); }

  void start(const uint8_t* input, size_t size, uint8_t bits, const uint8_t* window, size_t windowSize) override {
    inflateReset2(&stream_, -15);
    begin_ = input;
    stream_.next_in = const_cast<Bytef*>(input);
    stream_.avail_in = 0;
    left_ = size;
    if (bits != 0) {
      inflatePrime(&stream_, bits, input[0] >> (8 - bits));
      stream_.next_in++;
      left_--;
    }
    if (windowSize > 0) inflateSetDictionary(&stream_, window, static_cast<uInt>(windowSize));
  }

  Status run(uint8_t* out, size_t capacity, size_t& produced) override {
    if (stream_.avail_in == 0) {
      stream_.avail_in = static_cast<uInt>(std::min(left_, kFeed));
      left_ -= stream_.avail_in;
    }
    stream_.next_out = out;
    stream_.avail_out = static_cast<uInt>(std::min(capacity, kFeed));
    const uInt room = stream_.avail_out;
    int status = inflate(&stream_, Z_NO_FLUSH);
    produced = room - stream_.avail_out;
    if (status == Z_STREAM_END) return Status::End;
    if (status == Z_OK) return Status::More;
    if (status == Z_BUF_ERROR) return left_ > 0 ? Status::More : Status::Starved;
    return Status::Bad;
  }

  size_t consumed() const override { return static_cast<size_t>(stream_.next_in - begin_); }

 private:
  z_stream stream_{};
  const uint8_t* begin_ = nullptr;
  size_t left_ = 0;  // input that zlib has not been shown yet
};

}  // namespace

std::unique_ptr<Inflater> makeZlibInflater() { return std::make_unique<ZlibInflater>(); }

}  // namespace peel
