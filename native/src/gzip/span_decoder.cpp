#include "gzip/span_decoder.hpp"

#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "gzip/gzip_header.hpp"
#include "gzip/inflater.hpp"
#include "gzip/sha256.hpp"

namespace peel {
namespace {

constexpr size_t kOutput = size_t{256} << 10;
constexpr size_t kTrailer = 8;
// What the zstd command accepts without being told to.
constexpr int kZstdWindowLog = 27;

// kOutput bytes, of this thread.
uint8_t* outputBuffer() {
  static thread_local const std::unique_ptr<uint8_t[]> buffer(new uint8_t[kOutput]);
  return buffer.get();
}

// Of this thread, as making one costs as much as decoding some KiB. Nothing of what it did before counts after start().
Inflater& threadInflater() {
  static thread_local std::unique_ptr<Inflater> kept;
  static thread_local InflateBackend made;
  const InflateBackend wanted = inflateBackend();
  if (!kept || made != wanted) {
    kept = makeInflater(wanted);
    made = wanted;
  }
  return *kept;
}

bool allZero(const uint8_t* bytes, size_t length) {
  return std::all_of(bytes, bytes + length, [](uint8_t byte) { return byte == 0; });
}

uint32_t load32(const uint8_t* bytes) {
  return bytes[0] | (bytes[1] << 8) | (bytes[2] << 16) | (static_cast<uint32_t>(bytes[3]) << 24);
}

// What comes out: the span's bytes to the sink, and past them nothing or, open-ended, zeros that are counted.
class Output {
 public:
  Output(uint64_t size, bool openEnded, const SpanSink& sink, DecodeResult& result)
      : left_(size), openEnded_(openEnded), sink_(sink), result_(result) {}

  int take(const uint8_t* bytes, size_t length) {
    const size_t mine = static_cast<size_t>(std::min<uint64_t>(length, left_));
    if (mine > 0) {
      if (int err = sink_(bytes, mine)) return err;
      left_ -= mine;
      result_.streamBytes += mine;
    }
    if (mine == length) return 0;
    result_.trailingZeros += length - mine;
    if (openEnded_ && result_.trailingZeros <= kMaxTrailingZeros && allZero(bytes + mine, length - mine)) return 0;
    return bad(SpanFailure::Length);
  }

  int bad(SpanFailure failure) {
    result_.failure = failure;
    return -EBADMSG;
  }

  bool full() const { return left_ == 0; }
  // Where the input may simply stop: a span in the middle of a layer ends between two blocks, in a trailer or a header.
  bool mayStop() const { return full() && !openEnded_; }

 private:
  uint64_t left_;
  const bool openEnded_;
  const SpanSink& sink_;
  DecodeResult& result_;
};

class GzipSpan {
 public:
  GzipSpan(const DecodeInput& input, Output& output)
      : input_(input), output_(output), inflater_(threadInflater()) {}

  int decode() {
    if (input_.kind == SpanKind::GzipMember) {
      if (input_.size == 0) return stop();
      if (int err = header(); err || ended_) return err;
    } else {
      if (input_.bits != 0 && input_.size == 0) return output_.bad(SpanFailure::Inflate);
      inflater_.start(input_.data, input_.size, input_.bits, input_.window, input_.windowSize);
    }
    while (!ended_) {
      if (int err = member()) return err;
      if (int err = ended_ ? 0 : next()) return err;
    }
    return 0;
  }

 private:
  // The input ended where it only may when nothing more was expected of it.
  int cut() {
    ended_ = true;
    if (output_.mayStop()) return 0;
    return output_.bad(output_.full() ? SpanFailure::Inflate : SpanFailure::Length);
  }

  // The input ended after a whole member.
  int stop() {
    ended_ = true;
    return output_.full() ? 0 : output_.bad(SpanFailure::Length);
  }

  // One member to its end, from wherever in it the inflater stands.
  int member() {
    uint8_t* const buffer = outputBuffer();
    for (;;) {
      size_t produced = 0;
      const Inflater::Status status = inflater_.run(buffer, kOutput, produced);
      if (whole_) {
        crc_ = gzipCrc(crc_, buffer, produced);
        length_ += produced;
      }
      if (int err = output_.take(buffer, produced)) return err;
      switch (status) {
        case Inflater::Status::More: break;
        case Inflater::Status::Bad: return output_.bad(SpanFailure::Inflate);
        case Inflater::Status::Starved: return input_.kind == SpanKind::GzipMember ? truncated() : cut();
        case Inflater::Status::End: at_ += inflater_.consumed(); return 0;
      }
    }
  }

  int truncated() { return output_.bad(SpanFailure::Inflate); }

  // Past the trailer and into the next member, if there is one.
  int next() {
    if (input_.size - at_ < kTrailer) return input_.kind == SpanKind::GzipMember ? truncated() : cut();
    // Of a member that began before the span nobody knows the checksum.
    const uint8_t* trailer = input_.data + at_;
    if (whole_ && (load32(trailer) != crc_ || load32(trailer + 4) != static_cast<uint32_t>(length_))) {
      return output_.bad(SpanFailure::Inflate);
    }
    at_ += kTrailer;
    // As gunzip does: zeros after the last member are padding.
    if (allZero(input_.data + at_, input_.size - at_)) return stop();
    return header();
  }

  int header() {
    size_t length = 0;
    switch (parseGzipHeader(input_.data + at_, input_.size - at_, length)) {
      case GzipHeader::Bad: return output_.bad(SpanFailure::Inflate);
      case GzipHeader::CutShort: return input_.kind == SpanKind::GzipMember ? truncated() : cut();
      case GzipHeader::Whole: break;
    }
    at_ += length;
    whole_ = true;
    crc_ = 0;
    length_ = 0;
    inflater_.start(input_.data + at_, input_.size - at_, 0, nullptr, 0);
    return 0;
  }

  const DecodeInput& input_;
  Output& output_;
  Inflater& inflater_;
  size_t at_ = 0;  // of the input; inside a member: its first byte in this span
  bool ended_ = false;
  bool whole_ = false;  // the member began in this span
  uint32_t crc_ = 0;
  uint64_t length_ = 0;
};

// RFC 8878 §3.1. The library would take the formats before that one too.
bool beginsFrame(const uint8_t* bytes, size_t length) {
  if (length < 4) return false;
  const uint32_t magic = load32(bytes);
  return magic == ZSTD_MAGICNUMBER || (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

// Frame after frame, skippable ones among them. A context of its own each time: one that a thread keeps would keep the
// largest window it ever saw.
int zstdSpan(const DecodeInput& input, Output& output) {
  const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  if (!context) return -ENOMEM;
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kZstdWindowLog);
  uint8_t* const buffer = outputBuffer();
  ZSTD_inBuffer in{input.data, input.size, 0};
  size_t more = 0;  // 0 between two frames
  while (in.pos < in.size || more != 0) {
    if (more == 0 && !beginsFrame(input.data + in.pos, input.size - in.pos)) return output.bad(SpanFailure::Inflate);
    const size_t before = in.pos;
    ZSTD_outBuffer out{buffer, kOutput, 0};
    more = ZSTD_decompressStream(context.get(), &out, &in);
    if (ZSTD_isError(more)) {
      if (ZSTD_getErrorCode(more) == ZSTD_error_memory_allocation) return -ENOMEM;
      return output.bad(SpanFailure::Inflate);
    }
    if (int err = output.take(buffer, out.pos)) return err;
    if (out.pos == 0 && in.pos == before) return output.bad(SpanFailure::Inflate);
  }
  return output.full() ? 0 : output.bad(SpanFailure::Length);
}

int storedSpan(const DecodeInput& input, Output& output) {
  if (int err = output.take(input.data, input.size)) return err;
  return output.full() ? 0 : output.bad(SpanFailure::Length);
}

}  // namespace

int decodeSpan(const DecodeInput& input, uint64_t streamSize, const SpanSink& sink, DecodeResult& result) {
  result = DecodeResult{};
  if (input.bits > 7 || input.windowSize > 32768 || (input.data == nullptr && input.size > 0)) return -EINVAL;
  if (input.sha256) {
    const Sha256Digest digest = Sha256::of(input.data, input.size);
    if (std::memcmp(digest.data(), input.sha256, digest.size()) != 0) {
      result.failure = SpanFailure::Digest;
      return -EBADMSG;
    }
  }
  Output output(streamSize, input.openEnded, sink, result);
  if (input.kind == SpanKind::Stored) return storedSpan(input, output);
  if (input.kind == SpanKind::ZstdFrame) return zstdSpan(input, output);
  return GzipSpan(input, output).decode();
}

}  // namespace peel
