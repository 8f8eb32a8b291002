#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

namespace peel {

enum class SpanKind : uint8_t { GzipCheckpoint, GzipMember, ZstdFrame, Stored };

// One span as it came from the registry, and where to start in it.
struct DecodeInput {
  SpanKind kind = SpanKind::Stored;
  uint8_t bits = 0;               // gzip-checkpoint: high bits of data[0] that belong to the first block, 0..7
  const uint8_t* data = nullptr;  // blob bytes [blobStart, blobEnd)
  size_t size = 0;
  const uint8_t* window = nullptr;  // the stream before the span, oldest first; up to 32768 bytes
  size_t windowSize = 0;
  const uint8_t* sha256 = nullptr;  // of data; 32 bytes or null
  bool openEnded = false;           // last span: decode to the end; bytes past the stated size must be zeros
};

enum class SpanFailure : uint8_t { None, Digest, Inflate, Length, Disk };

struct DecodeResult {
  uint64_t streamBytes = 0;    // bytes of the span proper
  uint64_t trailingZeros = 0;  // open-ended: bytes after them
  bool wasPresent = false;     // nothing was decoded: it is here already
  int refused = 0;             // -errno of the disk that did not take it: it is in memory, for those who wait
  SpanFailure failure = SpanFailure::None;
};

// Where decoded bytes go, in order, never more than the span's size in all. 0 or -errno, which ends the decoding.
using SpanSink = std::function<int(const uint8_t* bytes, size_t length)>;

// Padding after the stated end of a stream that is still believed to be padding. Tar pads to some KiB; a layer that
// claims more is not what its index says.
constexpr uint64_t kMaxTrailingZeros = uint64_t{64} << 20;

// Decodes one span of exactly `streamSize` bytes in bounded memory. 0, -EBADMSG with result.failure, or the sink's error;
// -ENOMEM where the window of a zstd frame, at most 128 MiB, could not be had.
int decodeSpan(const DecodeInput& input, uint64_t streamSize, const SpanSink& sink, DecodeResult& result);

}  // namespace peel
