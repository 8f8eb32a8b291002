#include "cache/decode_run.hpp"

#include <cerrno>

namespace peel {

void decodeRun(LayerCache& cache, uint32_t first, const DecodeRun& run, DecodeRunResult& result) {
  if (run.windowInCache) result.err = cache.tailBefore(first, result.tail);
  if (result.err) return;
  result.tail.add(run.window, run.windowSize);
  result.hasTail = true;
  for (size_t i = 0; i < run.pieces.size() && result.hasTail; i++) {
    const auto& [bits, from, to] = run.pieces[i];
    if (from > to || to > run.size || i >= cache.spanCount() - first) {
      result.err = -EINVAL;
      break;
    }
    DecodeInput input;
    input.kind = run.kind;
    input.bits = bits;
    input.data = run.data + from;
    input.size = to - from;
    // Copied by the decoder before the first byte comes out, which changes it.
    input.window = result.tail.data();
    input.windowSize = result.tail.size();
    input.sha256 = run.sha256 ? run.sha256 + 32 * i : nullptr;
    input.openEnded = run.openEnded && i + 1 == run.pieces.size();
    if (int err = cache.decode(first + static_cast<uint32_t>(i), input, result.failed, &result.tail)) {
      result.err = err;
      break;
    }
    result.present += 1;
    if (result.failed.refused) result.refused = result.failed.refused;
    result.bytes += result.failed.streamBytes + result.failed.trailingZeros;
    result.hasTail = !result.failed.wasPresent;
  }
  if (result.err) result.hasTail = false;
}

}  // namespace peel
