#include "gzip/span_decoder.hpp"

#include <cerrno>
#include <cstring>

#include "gzip/sha256.hpp"

namespace peel {

int decodeSpan(const DecodeInput& input, uint64_t streamSize, const SpanSink& sink, DecodeResult& result) {
  if (input.sha256) {
    Sha256Digest digest = Sha256::of(input.data, input.size);
    if (std::memcmp(digest.data(), input.sha256, digest.size()) != 0) {
      result.failure = SpanFailure::Digest;
      return -EBADMSG;
    }
  }
  if (input.kind != SpanKind::Stored || input.size != streamSize) {
    result.failure = SpanFailure::Length;
    return -EBADMSG;
  }
  result.streamBytes = streamSize;
  return sink(input.data, input.size);
}

}  // namespace peel
