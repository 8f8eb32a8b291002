#pragma once
#include <zlib.h>

#include <cstring>
#include <string>
#include <vector>

#include "check.hpp"
#include "gzip/checkpoint_scan.hpp"
#include "gzip/inflater.hpp"
#include "gzip/sha256.hpp"
#include "gzip/span_decoder.hpp"

// Blobs to decode, and a plain description of their spans.
namespace fixture {

using Bytes = std::vector<uint8_t>;

// Between text and noise, with back references over the whole window.
inline Bytes material(size_t size, uint64_t seed) {
  check::Random random{seed};
  Bytes bytes;
  bytes.reserve(size + 300);
  while (bytes.size() < size) {
    const size_t length = 1 + random.below(60);
    if (bytes.size() > 100 && random.below(10) < 6) {
      const size_t back = 1 + random.below(std::min<size_t>(bytes.size(), 32768));
      for (size_t i = 0; i < length; i++) bytes.push_back(bytes[bytes.size() - back]);
    } else {
      for (size_t i = 0; i < length; i++) bytes.push_back(static_cast<uint8_t>(random.next() >> 58));
    }
  }
  bytes.resize(size);
  return bytes;
}

struct MemberOptions {
  int level = 6;
  int strategy = Z_DEFAULT_STRATEGY;
  bool fields = false;    // FEXTRA, FNAME, FCOMMENT and FHCRC
  size_t flushEvery = 0;  // Z_SYNC_FLUSH after so many bytes
};

inline Bytes member(const Bytes& plain, const MemberOptions& options = {}) {
  z_stream stream{};
  CHECK_EQ(deflateInit2(&stream, options.level, Z_DEFLATED, 31, 8, options.strategy), Z_OK);
  gz_header header{};
  Bytef extra[] = {1, 2, 3, 0, 5};
  Bytef name[] = "a name";
  Bytef comment[] = "a comment";
  if (options.fields) {
    header.extra = extra;
    header.extra_len = sizeof extra;
    header.name = name;
    header.comment = comment;
    header.hcrc = 1;
    deflateSetHeader(&stream, &header);
  }
  Bytes out(deflateBound(&stream, plain.size()) + 1000 + (options.flushEvery ? plain.size() / options.flushEvery * 20 : 0));
  stream.next_out = out.data();
  stream.avail_out = static_cast<uInt>(out.size());
  stream.next_in = const_cast<Bytef*>(plain.data());
  if (options.flushEvery) {
    for (size_t at = 0; at < plain.size(); at += options.flushEvery) {
      stream.avail_in = static_cast<uInt>(std::min(options.flushEvery, plain.size() - at));
      CHECK_EQ(deflate(&stream, Z_SYNC_FLUSH), Z_OK);
    }
  } else {
    stream.avail_in = static_cast<uInt>(plain.size());
  }
  CHECK_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

inline Bytes join(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

struct Span {
  Bytes data;
  Bytes window;
  uint8_t bits = 0;
  uint64_t start = 0, end = 0;  // of the stream
  peel::Sha256Digest sha256{};
  peel::SpanKind kind = peel::SpanKind::GzipCheckpoint;
};

struct Layer {
  Bytes blob;
  Bytes stream;
  std::vector<Span> spans;
};

// `pieces`: how the blob is fed and the stream taken, to find what depends on the sizes of buffers.
inline Layer index(Bytes blob, uint64_t spanSize, size_t feed = 1 << 16, size_t room = 1 << 16) {
  Layer layer;
  peel::CheckpointScan scan(spanSize);
  Bytes out(room);
  for (size_t at = 0; at < blob.size(); at += feed) {
    scan.feed(blob.data() + at, std::min(feed, blob.size() - at));
    for (;;) {
      size_t produced = 0;
      const peel::ScanStatus status = scan.run(out.data(), out.size(), produced);
      layer.stream.insert(layer.stream.end(), out.data(), out.data() + produced);
      if (status == peel::ScanStatus::NeedInput) break;
      CHECK(status == peel::ScanStatus::OutputFull);
    }
  }
  CHECK(scan.atEnd());
  CHECK_EQ(scan.consumed(), blob.size());
  CHECK_EQ(scan.produced(), layer.stream.size());
  const auto& points = scan.checkpoints();
  for (size_t i = 0; i < points.size(); i++) {
    const bool last = i + 1 == points.size();
    const uint64_t from = points[i].in - (points[i].bits ? 1 : 0);
    const uint64_t to = last ? blob.size() : points[i + 1].in;
    Span span;
    span.data.assign(blob.begin() + static_cast<ptrdiff_t>(from), blob.begin() + static_cast<ptrdiff_t>(to));
    span.window.assign(scan.window(i).get(), scan.window(i).get() + peel::kWindow);
    span.bits = points[i].bits;
    span.start = points[i].out;
    span.end = last ? layer.stream.size() : points[i + 1].out;
    span.sha256 = peel::Sha256::of(span.data.data(), span.data.size());
    layer.spans.push_back(std::move(span));
  }
  layer.blob = std::move(blob);
  return layer;
}

inline peel::DecodeInput inputOf(const Span& span, bool openEnded = false) {
  peel::DecodeInput input;
  input.kind = span.kind;
  input.bits = span.bits;
  input.data = span.data.data();
  input.size = span.data.size();
  input.window = span.window.data();
  input.windowSize = span.window.size();
  input.sha256 = span.sha256.data();
  input.openEnded = openEnded;
  return input;
}

struct Decoded {
  int err;
  peel::DecodeResult result;
  Bytes bytes;
};

inline Decoded decode(const peel::DecodeInput& input, uint64_t size) {
  Decoded decoded;
  decoded.err = peel::decodeSpan(
      input, size,
      [&](const uint8_t* bytes, size_t length) {
        decoded.bytes.insert(decoded.bytes.end(), bytes, bytes + length);
        CHECK(decoded.bytes.size() <= size);
        return 0;
      },
      decoded.result);
  return decoded;
}

inline void onEachBackend(const std::function<void()>& body) {
  for (auto backend : {peel::InflateBackend::Zlib, peel::InflateBackend::Isal}) {
    if (peel::setInflateBackend(backend)) body();
  }
}

}  // namespace fixture
