#include "zstd/frame_decoder.hpp"

#include <zstd.h>
#include <zstd_errors.h>

#include <cerrno>
#include <memory>

namespace peel {
namespace {

constexpr size_t kOutput = size_t{256} << 10;
// As a power of two: what the zstd command accepts without being told to.
constexpr int kWindowLogMax = 27;

struct FreeContext {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

int errnoOf(size_t code) { return ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation ? -ENOMEM : -EBADMSG; }

}  // namespace

int decodeZstdFrames(const uint8_t* data, size_t size,
                     const std::function<int(const uint8_t* bytes, size_t length)>& sink) {
  static thread_local std::unique_ptr<uint8_t[]> buffer(new uint8_t[kOutput]);
  // Not kept for the thread: a single frame with a large window would hold on to it for ever.
  std::unique_ptr<ZSTD_DCtx, FreeContext> context(ZSTD_createDCtx());
  if (!context) return -ENOMEM;
  const size_t set = ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kWindowLogMax);
  if (ZSTD_isError(set)) return errnoOf(set);
  ZSTD_inBuffer input{data, size, 0};
  size_t hint = 0;
  for (bool full = false; input.pos < input.size || full;) {
    ZSTD_outBuffer output{buffer.get(), kOutput, 0};
    hint = ZSTD_decompressStream(context.get(), &output, &input);
    if (ZSTD_isError(hint)) return errnoOf(hint);
    if (output.pos > 0) {
      if (int err = sink(buffer.get(), output.pos)) return err;
    }
    // At the end of a frame nothing is left to flush, and asking for more would begin another one.
    full = hint != 0 && output.pos == kOutput;
  }
  return hint == 0 ? 0 : -EBADMSG;
}

}  // namespace peel
