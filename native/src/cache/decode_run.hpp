#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/layer_cache.hpp"
#include "gzip/span_decoder.hpp"
#include "gzip/stream_tail.hpp"

namespace peel {

// Spans that follow one another in the stream, as they came in one piece: each takes its window from the one before.
struct DecodeRun {
  struct Piece {
    uint8_t bits = 0;  // as of DecodeInput
    size_t from = 0;   // [from, to) of data; neighbours may share a byte
    size_t to = 0;
  };

  SpanKind kind = SpanKind::Stored;
  std::vector<Piece> pieces;
  const uint8_t* data = nullptr;
  size_t size = 0;
  const uint8_t* window = nullptr;  // of the first one
  size_t windowSize = 0;
  bool windowInCache = false;  // instead: it is the end of the spans before; -ENODATA when those are not all here
  const uint8_t* sha256 = nullptr;  // 32 bytes for each, or null
  bool openEnded = false;           // the last one is the layer's last one
};

struct DecodeRunResult {
  uint32_t present = 0;        // as many, from the first one on, are present now
  uint64_t bytes = 0;          // of the stream, of these, zeros past its end included
  DecodeResult failed;         // of the one after them
  int err = 0;                 // its error, 0 when none failed
  int refused = 0;             // some of those that are present are in memory only, as the disk said this: -errno
  bool hasTail = false;        // the stream before the next one is known
  StreamTail tail;
};

// Ends before the first span that fails, and after one that is here already: what comes before the next one was not decoded then.
void decodeRun(LayerCache& cache, uint32_t first, const DecodeRun& run, DecodeRunResult& result);

}  // namespace peel
