// One span whose every parameter is made up: never a byte outside the span, never more than its size, stored only with exactly that size, and the
// same by both inflaters where both take it.
#include <cerrno>

#include "fuzz/target.hpp"
#include "zstd_fixture.hpp"

namespace {

constexpr uint64_t kMostStream = 1 << 20;

fuzz::Bytes inputFor(const fixture::Span& span, bool openEnded) {
  return fuzz::Writer()
      .number(static_cast<uint8_t>(span.kind))
      .number(span.bits)
      .number(static_cast<uint8_t>(openEnded))
      .number(static_cast<uint32_t>(span.end - span.start))
      .number(static_cast<uint16_t>(span.window.size()))
      .bytes(span.window)
      .bytes(span.data)
      .out;
}

}  // namespace

std::vector<fuzz::Bytes> fuzz::seeds() {
  using namespace fixture;
  std::vector<Bytes> seeds;
  const auto add = [&seeds](const Layer& layer) {
    for (const Span& span : layer.spans) seeds.push_back(inputFor(span, &span == &layer.spans.back()));
  };
  add(index(member(material(3'000, 1)), 1'000));
  add(index(member(material(2'000, 2), {.strategy = Z_FIXED}), 1'000));
  add(index(member(material(2'000, 3), {.level = 0, .flushEvery = 500}), 1'000));
  add(index(join({member(material(500, 4), {.fields = true}), member(material(500, 5))}), 400));
  add(zstdLayer(material(2'000, 6), 500, 2));
  Span stored;
  stored.kind = peel::SpanKind::Stored;
  stored.data = material(100, 7);
  stored.end = stored.data.size();
  seeds.push_back(inputFor(stored, false));
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  fuzz::Reader from(bytes, size);
  peel::DecodeInput input;
  input.kind = static_cast<peel::SpanKind>(from.number<uint8_t>() % 5);
  input.bits = from.number<uint8_t>();
  input.openEnded = from.number<uint8_t>() & 1;
  const uint64_t streamBytes = from.number<uint32_t>() % (kMostStream + 1);
  const fuzz::Bytes window = from.bytes(from.number<uint16_t>());
  input.window = window.data();
  input.windowSize = window.size();
  const fuzz::Bytes data = from.bytes(from.left());
  input.data = data.data();
  input.size = data.size();
  std::vector<fixture::Decoded> taken;
  fixture::onEachBackend([&] {
    fixture::Decoded decoded = fixture::decode(input, streamBytes);
    if (decoded.err != 0) {
      CHECK(decoded.err == -EBADMSG || decoded.err == -EINVAL || decoded.err == -ENOMEM);
      return;
    }
    CHECK_EQ(decoded.bytes.size(), streamBytes);
    CHECK_EQ(decoded.result.streamBytes, streamBytes);
    taken.push_back(std::move(decoded));
  });
  if (taken.size() == 2) CHECK(taken[0].bytes == taken[1].bytes);
  return 0;
}
