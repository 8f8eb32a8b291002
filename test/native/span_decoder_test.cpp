// Every span of every shape of blob decodes to its part of the stream, by both backends; anything else is refused.
#include <cerrno>

#include "zstd_fixture.hpp"

using namespace fixture;
using peel::SpanFailure;
using peel::SpanKind;

namespace {

void everySpanDecodes(const Layer& layer) {
  onEachBackend([&] {
    for (size_t i = 0; i < layer.spans.size(); i++) {
      const Span& span = layer.spans[i];
      const Decoded decoded = decode(inputOf(span, i + 1 == layer.spans.size()), span.end - span.start);
      CHECK_EQ(decoded.err, 0);
      CHECK_EQ(decoded.result.trailingZeros, 0u);
      CHECK(decoded.bytes == Bytes(layer.stream.begin() + static_cast<ptrdiff_t>(span.start),
                                   layer.stream.begin() + static_cast<ptrdiff_t>(span.end)));
    }
  });
}

void refused(const peel::DecodeInput& input, uint64_t size, SpanFailure failure) {
  onEachBackend([&] {
    const Decoded decoded = decode(input, size);
    CHECK_EQ(decoded.err, -EBADMSG);
    CHECK_EQ(static_cast<int>(decoded.result.failure), static_cast<int>(failure));
  });
}

peel::DecodeInput plain(SpanKind kind, const Bytes& data, bool openEnded = false) {
  peel::DecodeInput input;
  input.kind = kind;
  input.data = data.data();
  input.size = data.size();
  input.openEnded = openEnded;
  return input;
}

}  // namespace

TEST(ordinary_layer) {
  const Bytes stream = material(3 << 20, 1);
  for (int level : {1, 6, 9}) {
    const Layer layer = index(member(stream, {.level = level}), 100'000);
    CHECK(layer.stream == stream);
    CHECK(layer.spans.size() > 5);
    everySpanDecodes(layer);
  }
}

TEST(checkpoints_in_the_middle_of_a_byte) {
  const Layer layer = index(member(material(2 << 20, 2)), 20'000);
  unsigned seen = 0;
  for (const Span& span : layer.spans) seen |= 1u << span.bits;
  CHECK_EQ(seen, 0xffu);
  everySpanDecodes(layer);
}

TEST(stored_and_fixed_blocks) {
  everySpanDecodes(index(member(material(1 << 20, 3), {.level = 0}), 50'000));
  everySpanDecodes(index(member(material(1 << 20, 3), {.strategy = Z_FIXED}), 50'000));
  everySpanDecodes(index(member(material(1 << 20, 3), {.flushEvery = 5'000}), 50'000));
}

TEST(one_block_many_times_the_buffer) {
  const Layer layer = index(member(Bytes(40 << 20, 'z')), 1 << 20);
  everySpanDecodes(layer);
}

TEST(many_members) {
  check::Random random{7};
  Bytes blob, stream;
  for (int i = 0; i < 40; i++) {
    const Bytes part = material(random.below(60'000), 100 + i);
    const Bytes one = member(part, {.level = 1 + i % 9, .fields = i % 3 == 0});
    blob.insert(blob.end(), one.begin(), one.end());
    stream.insert(stream.end(), part.begin(), part.end());
  }
  for (uint64_t span : {1u, 1'000u, 70'000u, 10'000'000u}) {
    const Layer layer = index(blob, span);
    CHECK(layer.stream == stream);
    everySpanDecodes(layer);
  }
}

TEST(empty_members_and_padding) {
  const Bytes part = material(50'000, 8);
  everySpanDecodes(index(join({member({}), member(part, {.fields = true}), member({}), Bytes(700, 0)}), 10'000));
  everySpanDecodes(index(member({}), 10'000));
}

TEST(window_is_needed_and_used) {
  Layer layer = index(member(material(1 << 20, 9)), 50'000);
  Span& span = layer.spans[3];
  peel::DecodeInput input = inputOf(span);
  input.window = nullptr;
  input.windowSize = 0;
  refused(input, span.end - span.start, SpanFailure::Inflate);
}

// Never bytes of another span, which the thread's inflater decoded before.
TEST(a_shorter_window_does_or_is_refused) {
  const Layer layer = index(member(material(1 << 20, 22)), 20'000);
  int done = 0, refused = 0;
  onEachBackend([&] {
    check::Random random{23};
    for (const Span& span : layer.spans) {
      peel::DecodeInput input = inputOf(span);
      const size_t size = random.below(2) == 0 ? random.below(200) : random.below(span.window.size());
      input.window += span.window.size() - size;
      input.windowSize = size;
      const Decoded decoded = decode(input, span.end - span.start);
      decoded.err == 0 ? done++ : refused++;
      if (decoded.err != 0) continue;
      CHECK(decoded.bytes == Bytes(layer.stream.begin() + static_cast<ptrdiff_t>(span.start),
                                   layer.stream.begin() + static_cast<ptrdiff_t>(span.end)));
    }
  });
  CHECK(done > 0);
  CHECK(refused > 0);
}

TEST(wrong_size) {
  const Layer layer = index(member(material(1 << 20, 10)), 50'000);
  for (size_t i : {size_t{0}, size_t{4}, layer.spans.size() - 1}) {
    const Span& span = layer.spans[i];
    const uint64_t size = span.end - span.start;
    refused(inputOf(span), size - 1, SpanFailure::Length);
    refused(inputOf(span), size + 1, SpanFailure::Length);
    refused(inputOf(span), 0, SpanFailure::Length);
    refused(inputOf(span), uint64_t{1} << 62, SpanFailure::Length);
  }
}

TEST(digest_comes_first) {
  const Layer layer = index(member(material(1 << 20, 11)), 50'000);
  Span span = layer.spans[2];
  span.data[span.data.size() / 2] ^= 1;
  refused(inputOf(span), span.end - span.start, SpanFailure::Digest);
}

TEST(open_end_counts_zeros_and_only_zeros) {
  Bytes stream = material(100'000, 12);
  const size_t stated = stream.size();
  stream.resize(stated + (1 << 20), 0);
  const Bytes blob = member(stream);
  Layer layer = index(blob, 10'000'000);
  onEachBackend([&] {
    const Decoded decoded = decode(inputOf(layer.spans[0], true), stated);
    CHECK_EQ(decoded.err, 0);
    CHECK_EQ(decoded.result.streamBytes, stated);
    CHECK_EQ(decoded.result.trailingZeros, uint64_t{1} << 20);
    CHECK_EQ(decoded.bytes.size(), stated);
  });
  refused(inputOf(layer.spans[0], false), stated, SpanFailure::Length);
  stream.back() = 1;
  layer = index(member(stream), 10'000'000);
  refused(inputOf(layer.spans[0], true), stated, SpanFailure::Length);
  // A bomb is cut off long before its end.
  layer = index(member(Bytes(peel::kMaxTrailingZeros + (8 << 20), 0)), 10'000'000'000);
  refused(inputOf(layer.spans[0], true), 1000, SpanFailure::Length);
}

TEST(open_end_needs_the_end) {
  const Bytes stream = material(100'000, 13);
  Layer layer = index(member(stream), 10'000'000);
  Span& span = layer.spans[0];
  for (size_t cut : {1u, 7u, 8u, 9u, 100u}) {
    Span shorter = span;
    shorter.data.resize(span.data.size() - cut);
    peel::DecodeInput input = inputOf(shorter, true);
    input.sha256 = nullptr;
    onEachBackend([&] { CHECK_EQ(decode(input, stream.size()).err, -EBADMSG); });
  }
  Span longer = span;
  longer.data.insert(longer.data.end(), {'x', 'y', 'z'});
  peel::DecodeInput input = inputOf(longer, true);
  input.sha256 = nullptr;
  refused(input, stream.size(), SpanFailure::Inflate);
}

TEST(whole_members) {
  const Bytes one = material(300'000, 14), two = material(10, 15);
  const Bytes both = join({one, two});
  const Bytes data = join({member(one, {.fields = true}), member({}), member(two)});
  onEachBackend([&] {
    const Decoded decoded = decode(plain(SpanKind::GzipMember, data), both.size());
    CHECK_EQ(decoded.err, 0);
    CHECK(decoded.bytes == both);
    CHECK_EQ(decode(plain(SpanKind::GzipMember, {}), 0).err, 0);
  });
  Bytes broken = data;
  broken[broken.size() - 8] ^= 1;
  refused(plain(SpanKind::GzipMember, broken), both.size(), SpanFailure::Inflate);
  for (size_t size : {size_t{1}, size_t{9}, data.size() - 1, data.size() - 9}) {
    const Bytes cut(data.begin(), data.begin() + static_cast<ptrdiff_t>(size));
    refused(plain(SpanKind::GzipMember, cut), both.size(), SpanFailure::Inflate);
  }
  refused(plain(SpanKind::GzipMember, data), both.size() - 1, SpanFailure::Length);
  refused(plain(SpanKind::GzipMember, {}), 1, SpanFailure::Length);
}

TEST(stored_spans) {
  const Bytes data = material(70'000, 16);
  CHECK(decode(plain(SpanKind::Stored, data), data.size()).bytes == data);
  refused(plain(SpanKind::Stored, data), data.size() + 1, SpanFailure::Length);
  refused(plain(SpanKind::Stored, data), data.size() - 1, SpanFailure::Length);
  Bytes padded = data;
  padded.resize(data.size() + 512, 0);
  const Decoded decoded = decode(plain(SpanKind::Stored, padded, true), data.size());
  CHECK_EQ(decoded.err, 0);
  CHECK_EQ(decoded.result.trailingZeros, 512u);
  CHECK(decoded.bytes == data);
}

TEST(zstd_frames) {
  const Bytes stream = material(1 << 20, 18);
  for (size_t perSpan : {size_t{1}, size_t{4}, size_t{1000}}) everySpanDecodes(zstdLayer(stream, 50'000, perSpan));
  everySpanDecodes(zstdLayer(stream, stream.size(), 1));
  // Frames of any size around the buffer's, and such as hold nothing.
  for (size_t size : {1u, (256u << 10) - 1, 256u << 10, (256u << 10) + 1, 512u << 10}) {
    const Bytes part(stream.begin(), stream.begin() + static_cast<ptrdiff_t>(size));
    for (bool sized : {false, true}) {
      const Bytes frame = zstdFrame(part, {.checksum = true, .sized = sized});
      const Bytes data = join({zstdFrame({}), skippableFrame(0), frame, skippableFrame(300'000, 15), zstdFrame({})});
      const Decoded decoded = decode(plain(SpanKind::ZstdFrame, data), size);
      CHECK_EQ(decoded.err, 0);
      CHECK(decoded.bytes == part);
    }
  }
  for (const Bytes& nothing : {Bytes{}, skippableFrame(5), zstdFrame({}, {.checksum = true})}) {
    CHECK_EQ(decode(plain(SpanKind::ZstdFrame, nothing), 0).err, 0);
    refused(plain(SpanKind::ZstdFrame, nothing), 1, SpanFailure::Length);
  }
}

TEST(zstd_frames_of_another_size) {
  const Bytes part = material(300'000, 19);
  const Bytes data = join({zstdFrame(part), zstdFrame({'x'})});
  for (uint64_t size : {uint64_t{0}, uint64_t{1}, uint64_t{299'999}, uint64_t{300'000}, uint64_t{300'002}, uint64_t{1} << 62}) {
    refused(plain(SpanKind::ZstdFrame, data), size, SpanFailure::Length);
  }
  // A bomb is cut off long before its end.
  const Bytes bomb = zstdFrame(Bytes(100 << 20, 0));
  const Decoded decoded = decode(plain(SpanKind::ZstdFrame, bomb), 1'000);
  CHECK(decoded.result.failure == SpanFailure::Length);
  CHECK_EQ(decoded.result.trailingZeros, (256u << 10) - 1'000u);
}

TEST(zstd_frames_cut_or_damaged) {
  const Bytes part = material(20'000, 20);
  const Bytes first = join({skippableFrame(20), zstdFrame(part, {.checksum = true})});
  const Bytes data = join({first, skippableFrame(9), zstdFrame(part)});
  for (size_t size = 1; size < data.size(); size += size < 60 || size + 60 > data.size() ? 1 : 97) {
    if (size == 28 || size == first.size() || size == first.size() + 17) continue;
    const Bytes cut(data.begin(), data.begin() + static_cast<ptrdiff_t>(size));
    refused(plain(SpanKind::ZstdFrame, cut), 2 * part.size(), SpanFailure::Inflate);
  }
  Bytes wrong = first;
  wrong.back() ^= 1;
  refused(plain(SpanKind::ZstdFrame, wrong), part.size(), SpanFailure::Inflate);
  for (const Bytes& behind : {Bytes{0}, Bytes{0, 0, 0, 0}, Bytes{'x', 'y', 'z', '!', '!'}, member({'x'})}) {
    refused(plain(SpanKind::ZstdFrame, join({first, behind})), part.size(), SpanFailure::Inflate);
  }
  // The library would read on in the format of its version 0.7.
  refused(plain(SpanKind::ZstdFrame, join({first, {0x27, 0xb5, 0x2f, 0xfd, 0, 0, 0xc0, 0, 0}})), part.size(), SpanFailure::Inflate);
}

TEST(zstd_windows) {
  const Bytes part = material(1 << 20, 21);
  const Bytes most = zstdFrame(part, {.windowLog = 27, .sized = false});
  const Decoded decoded = decode(plain(SpanKind::ZstdFrame, most), part.size());
  CHECK_EQ(decoded.err, 0);
  CHECK(decoded.bytes == part);
  Bytes larger = most;
  CHECK_EQ(larger[5], (27 - 10) << 3);
  larger[5] = (28 - 10) << 3;
  refused(plain(SpanKind::ZstdFrame, larger), part.size(), SpanFailure::Inflate);
}

TEST(a_failing_sink_ends_it) {
  const Layer layer = index(member(material(1 << 20, 17)), 10'000'000);
  onEachBackend([&] {
    peel::DecodeResult result;
    int calls = 0;
    auto full = [&](const uint8_t*, size_t) { return ++calls, -ENOSPC; };
    CHECK_EQ(peel::decodeSpan(inputOf(layer.spans[0]), layer.stream.size(), full, result), -ENOSPC);
    CHECK_EQ(calls, 1);
    CHECK(result.failure == SpanFailure::None);
  });
}

TEST(nonsense_is_refused) {
  const Bytes data = {0xff};
  peel::DecodeInput input = plain(SpanKind::GzipCheckpoint, data);
  input.bits = 8;
  CHECK_EQ(decode(input, 1).err, -EINVAL);
  input.bits = 3;
  input.size = 0;
  refused(input, 1, SpanFailure::Inflate);
  const Bytes large(40'000, 0);
  input.window = large.data();
  input.windowSize = large.size();
  CHECK_EQ(decode(input, 1).err, -EINVAL);
}

TEST_MAIN
