// A whole blob that claims to be gzip: headers, members, padding. Whatever an indexer takes it takes again from pieces of another size, and cuts it where
// the spans decode to the same stream.
#include "fuzz/target.hpp"
#include "indexer_fixture.hpp"

namespace {

constexpr size_t kMostStream = 4 << 20;
constexpr uint64_t kSpanSize = 1'000;

struct Taken {
  peel::StreamIndexer::Index index;
  fuzz::Bytes stream;
};

Taken take(const fuzz::Bytes& blob, size_t feed, size_t room) {
  peel::StreamIndexer indexer({.spanSize = kSpanSize});
  Taken taken;
  taken.index = fixture::run(indexer, blob, feed, room, taken.stream);
  return taken;
}

void checkSpans(const fuzz::Bytes& blob, const Taken& taken) {
  const auto& points = taken.index.checkpoints;
  for (size_t i = 0; i < points.size(); i++) {
    const bool isLast = i + 1 == points.size();
    const uint64_t from = points[i].in - (points[i].bits ? 1 : 0);
    const uint64_t to = isLast ? blob.size() : points[i + 1].in;
    const uint64_t end = isLast ? taken.stream.size() : points[i + 1].out;
    CHECK(from <= to && to <= blob.size() && points[i].out <= end && end <= taken.stream.size());
    const fuzz::Bytes data(blob.begin() + static_cast<ptrdiff_t>(from), blob.begin() + static_cast<ptrdiff_t>(to));
    peel::DecodeInput input;
    input.kind = peel::SpanKind::GzipCheckpoint;
    input.bits = points[i].bits;
    input.data = data.data();
    input.size = data.size();
    input.window = taken.index.windows[i].get();
    input.windowSize = peel::kWindow;
    const fixture::Decoded decoded = fixture::decode(input, end - points[i].out);
    CHECK_EQ(decoded.err, 0);
    CHECK(std::equal(decoded.bytes.begin(), decoded.bytes.end(),
                     taken.stream.begin() + static_cast<ptrdiff_t>(points[i].out)));
  }
}

}  // namespace

std::vector<fuzz::Bytes> fuzz::seeds() {
  using namespace fixture;
  return {
      member(material(3'000, 1)),
      member(material(2'000, 2), {.strategy = Z_FIXED, .fields = true}),
      member(material(2'000, 3), {.level = 0, .flushEvery = 500}),
      join({member(material(700, 4), {.fields = true}), member({}), member(material(900, 5)), Bytes(512, 0)}),
  };
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const fuzz::Bytes blob(bytes, bytes + size);
  // What unpacks to a thousand times as much is refused by limits elsewhere, and would take the fuzzer's time.
  if (size > kMostStream / 1'024) return 0;
  const Taken whole = take(blob, std::max<size_t>(size, 1), 1 << 16);
  const Taken pieces = take(blob, 7, 300);
  CHECK(whole.index.failure == pieces.index.failure);
  if (whole.index.failure != peel::StreamIndexer::Failure::None) return 0;
  CHECK(whole.stream == pieces.stream);
  CHECK_EQ(whole.index.streamSize, whole.stream.size());
  CHECK_EQ(whole.index.blobSize, blob.size());
  CHECK(whole.index.blobSha256 == pieces.index.blobSha256 && whole.index.streamSha256 == pieces.index.streamSha256);
  if (!blob.empty()) checkSpans(blob, whole);
  return 0;
}
