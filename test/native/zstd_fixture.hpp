#pragma once
#include <zstd.h>

#include "gzip_fixture.hpp"

namespace fixture {

struct FrameOptions {
  int level = 3;
  int windowLog = 0;  // 0: as the level has it
  bool checksum = false;
  bool sized = true;  // says in its header how much it holds
};

inline Bytes zstdFrame(const Bytes& plain, const FrameOptions& options = {}) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  CHECK(context != nullptr);
  ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, options.level);
  ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, options.windowLog);
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, options.checksum);
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, options.sized);
  Bytes out(ZSTD_compressBound(plain.size()));
  ZSTD_inBuffer from{plain.data(), plain.size(), 0};
  ZSTD_outBuffer to{out.data(), out.size(), 0};
  // With the end in the same call the window would be cut down to what the frame holds.
  if (options.windowLog) CHECK(!ZSTD_isError(ZSTD_compressStream2(context, &to, &from, ZSTD_e_continue)));
  CHECK_EQ(ZSTD_compressStream2(context, &to, &from, ZSTD_e_end), 0u);
  ZSTD_freeCCtx(context);
  out.resize(to.pos);
  return out;
}

inline Bytes skippableFrame(size_t size, uint8_t variant = 0) {
  Bytes frame = {static_cast<uint8_t>(0x50 | variant), 0x2a, 0x4d, 0x18};
  for (int i = 0; i < 4; i++) frame.push_back(static_cast<uint8_t>(size >> (8 * i)));
  frame.resize(8 + size, 0xa5);
  return frame;
}

// Spans of `perSpan` frames of `frameSize` bytes, every other one with a checksum, and some that are to be skipped.
inline Layer zstdLayer(const Bytes& stream, size_t frameSize, size_t perSpan) {
  Layer layer;
  layer.stream = stream;
  for (size_t at = 0, frames = 0; at < stream.size(); at += frameSize, frames++) {
    const auto from = stream.begin() + static_cast<ptrdiff_t>(at);
    const Bytes plain(from, from + static_cast<ptrdiff_t>(std::min(frameSize, stream.size() - at)));
    if (frames % perSpan == 0) {
      layer.spans.push_back({});
      layer.spans.back().kind = peel::SpanKind::ZstdFrame;
      layer.spans.back().start = at;
    }
    Span& span = layer.spans.back();
    if (frames % 3 == 0) span.data = join({span.data, skippableFrame(frames * 7 % 50)});
    const int level = 1 + static_cast<int>(frames % 5);
    span.data = join({span.data, zstdFrame(plain, {.level = level, .checksum = frames % 2 == 0, .sized = frames % 4 != 0})});
    span.end = at + plain.size();
  }
  for (Span& span : layer.spans) {
    span.sha256 = peel::Sha256::of(span.data.data(), span.data.size());
    layer.blob = join({layer.blob, span.data});
  }
  return layer;
}

}  // namespace fixture
