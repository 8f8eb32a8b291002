// Spans of whole zstd frames: right bytes or a refusal, in memory that does not depend on what a frame states.
#include <zstd.h>

#include <cerrno>

#include "gzip_fixture.hpp"

using namespace fixture;
using peel::SpanFailure;
using peel::SpanKind;

namespace {

struct FrameOptions {
  int level = 3;
  int windowLog = 0;
  bool checksum = true;
  bool stated = true;  // the frame says how many bytes it holds
};

Bytes frame(const Bytes& plain, const FrameOptions& options = {}) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, options.level);
  ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, options.windowLog);
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, options.checksum);
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, options.stated);
  Bytes out(ZSTD_compressBound(plain.size()) + 100);
  ZSTD_inBuffer input{plain.data(), plain.size(), 0};
  ZSTD_outBuffer output{out.data(), out.size(), 0};
  // In two steps where the size is not to be stated: libzstd knows it otherwise.
  if (!options.stated) CHECK(!ZSTD_isError(ZSTD_compressStream2(context, &output, &input, ZSTD_e_continue)));
  CHECK_EQ(ZSTD_compressStream2(context, &output, &input, ZSTD_e_end), 0u);
  ZSTD_freeCCtx(context);
  out.resize(output.pos);
  return out;
}

Bytes skippable(size_t size) {
  Bytes bytes{0x53, 0x2a, 0x4d, 0x18};
  for (int i = 0; i < 4; i++) bytes.push_back(static_cast<uint8_t>(size >> (8 * i)));
  bytes.resize(8 + size, 0xee);
  return bytes;
}

peel::DecodeInput framesOf(const Bytes& data, bool openEnded = false) {
  peel::DecodeInput input;
  input.kind = SpanKind::ZstdFrame;
  input.data = data.data();
  input.size = data.size();
  input.openEnded = openEnded;
  return input;
}

void refused(const Bytes& data, uint64_t size, SpanFailure failure) {
  const Decoded decoded = decode(framesOf(data), size);
  CHECK_EQ(decoded.err, -EBADMSG);
  CHECK_EQ(static_cast<int>(decoded.result.failure), static_cast<int>(failure));
}

}  // namespace

TEST(frames_one_after_the_other) {
  const Bytes a = material(700'000, 1), b = material(100, 2), c(3 << 20, 'z');
  const Bytes whole = join({a, b, c});
  for (bool stated : {true, false}) {
    const Bytes data = join({frame(a, {.stated = stated}), skippable(0), frame(b, {.level = 19}), frame({}),
                             skippable(5'000), frame(c, {.windowLog = 24, .checksum = false, .stated = stated})});
    const Decoded decoded = decode(framesOf(data), whole.size());
    CHECK_EQ(decoded.err, 0);
    CHECK(decoded.bytes == whole);
    CHECK_EQ(decoded.result.streamBytes, whole.size());
  }
  CHECK_EQ(decode(framesOf(Bytes{}), 0).err, 0);
  CHECK_EQ(decode(framesOf(skippable(20)), 0).err, 0);
}

TEST(size_of_the_output_buffer) {
  // The last bytes of a frame come out when the buffer is just full.
  for (size_t size : {size_t{256} << 10, size_t{512} << 10, (size_t{256} << 10) + 1}) {
    const Bytes a = material(size, 3), b = material(10, 4);
    const Decoded decoded = decode(framesOf(join({frame(a), frame(b)})), size + 10);
    CHECK_EQ(decoded.err, 0);
    CHECK(decoded.bytes == join({a, b}));
  }
}

TEST(cut_off_at_every_byte) {
  const Bytes a = material(2'000, 5), b = material(1'000, 6);
  const Bytes first = frame(a), data = join({first, frame(b)});
  for (size_t cut = 0; cut < data.size(); cut++) {
    const Bytes part(data.begin(), data.begin() + static_cast<ptrdiff_t>(cut));
    const bool whole = cut == 0 || cut == first.size();
    refused(part, a.size() + b.size(), whole ? SpanFailure::Length : SpanFailure::Inflate);
  }
}

TEST(another_size_than_the_index_says) {
  const Bytes plain = material(50'000, 7);
  const Bytes data = frame(plain);
  refused(data, plain.size() - 1, SpanFailure::Length);
  refused(data, plain.size() + 1, SpanFailure::Length);
  refused(data, 0, SpanFailure::Length);
  const Bytes padded = frame(join({plain, Bytes(3'000, 0)}));
  const Decoded decoded = decode(framesOf(padded, true), plain.size());
  CHECK_EQ(decoded.err, 0);
  CHECK_EQ(decoded.result.trailingZeros, 3'000u);
}

TEST(what_is_no_zstd) {
  refused(member(material(1'000, 8)), 1'000, SpanFailure::Inflate);
  refused(join({frame(material(1'000, 9)), Bytes(40, 0)}), 1'000, SpanFailure::Inflate);
  // A window of 2 GiB is not made, however small the frame is.
  refused({0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00}, 0, SpanFailure::Inflate);
}

TEST(bytes_changed_at_random) {
  const Bytes plain = material(20'000, 10);
  const Bytes data = join({frame(plain), skippable(30), frame(plain, {.level = 12})});
  const Bytes whole = join({plain, plain});
  const int rounds = static_cast<int>(10'000 * check::scale());
  int right = 0;
  for (int round = 0; round < rounds; round++) {
    check::Random random{static_cast<uint64_t>(round)};
    // An exact allocation, so that one byte too far is seen.
    const size_t size = random.below(4) == 0 ? random.below(data.size()) : data.size();
    const std::unique_ptr<uint8_t[]> exact(new uint8_t[size]);
    std::copy_n(data.begin(), size, exact.get());
    for (uint64_t i = 0; size > 0 && i <= random.below(3); i++) exact[random.below(size)] ^= 1 << random.below(8);
    peel::DecodeInput input = framesOf(data);
    input.data = exact.get();
    input.size = size;
    const Decoded decoded = decode(input, whole.size());
    CHECK(decoded.err == 0 || decoded.err == -EBADMSG);
    // Both frames have a checksum, so what was accepted changed only what carries no bytes.
    if (decoded.err == 0) CHECK(decoded.bytes == whole);
    right += decoded.err == 0;
  }
  CHECK(right < rounds);
}

TEST_MAIN
