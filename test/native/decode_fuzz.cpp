// Mutated spans, by both backends. With the digest of the right bytes: refused, or right. Without: never outside the
// span, never more than its size, and stored only with exactly that size.
#include <cerrno>

#include "zstd_fixture.hpp"

using namespace fixture;

namespace {

void mutate(Bytes& bytes, check::Random& random) {
  const int times = 1 + static_cast<int>(random.below(4));
  for (int i = 0; i < times; i++) {
    const size_t at = bytes.empty() ? 0 : random.below(bytes.size());
    switch (random.below(6)) {
      case 0: bytes.resize(at); break;
      case 1: bytes.insert(bytes.end(), 1 + random.below(50), static_cast<uint8_t>(random.next())); break;
      case 2: if (!bytes.empty()) bytes.erase(bytes.begin() + static_cast<ptrdiff_t>(at)); break;
      case 3: if (!bytes.empty()) bytes[at] = static_cast<uint8_t>(random.next()); break;
      case 4: bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(at), static_cast<uint8_t>(random.next())); break;
      default: if (!bytes.empty()) bytes[at] ^= static_cast<uint8_t>(1 << random.below(8)); break;
    }
  }
}

std::vector<Layer> layers() {
  Bytes members;
  for (int i = 0; i < 12; i++) {
    const Bytes one = member(material(3'000, 300 + i), {.fields = i % 2 == 0});
    members.insert(members.end(), one.begin(), one.end());
  }
  std::vector<Layer> all;
  all.push_back(index(member(material(120'000, 200)), 6'000));
  all.push_back(index(member(material(60'000, 201), {.strategy = Z_FIXED}), 6'000));
  all.push_back(index(member(material(60'000, 202), {.level = 0, .flushEvery = 3'000}), 6'000));
  all.push_back(index(std::move(members), 5'000));
  all.push_back(zstdLayer(material(60'000, 203), 3'000, 2));
  all.push_back(zstdLayer(material(40'000, 204), 40'000, 1));
  return all;
}

}  // namespace

TEST(ten_thousand_mutations) {
  const auto all = layers();
  const int rounds = static_cast<int>(10'000 * check::scale());
  int refused = 0, same = 0, other = 0, alone = 0;
  for (int round = 0; round < rounds; round++) {
    check::Random random{static_cast<uint64_t>(round)};
    const Layer& layer = all[random.below(all.size())];
    const size_t at = random.below(layer.spans.size());
    const Span& right = layer.spans[at];
    const Bytes expected(layer.stream.begin() + static_cast<ptrdiff_t>(right.start),
                         layer.stream.begin() + static_cast<ptrdiff_t>(right.end));
    Span span = right;
    mutate(span.data, random);
    peel::DecodeInput input = inputOf(span, at + 1 == layer.spans.size() && random.below(2) == 0);
    uint64_t size = expected.size();
    const bool digested = random.below(3) != 0;
    if (!digested) {
      // Everything the decoder is told may be wrong.
      input.sha256 = nullptr;
      if (random.below(4) == 0) input.bits = static_cast<uint8_t>(random.below(9));
      if (random.below(4) == 0) input.windowSize = random.below(span.window.size() + 1);
      if (random.below(4) == 0) size = random.below(2 * size + 2);
      if (random.below(6) == 0) input.kind = static_cast<peel::SpanKind>(random.below(4));
    }
    // An exact allocation, so that one byte too far is seen.
    const std::unique_ptr<uint8_t[]> exact(new uint8_t[span.data.size()]);
    std::copy(span.data.begin(), span.data.end(), exact.get());
    input.data = exact.get();
    std::vector<Decoded> answers;
    onEachBackend([&] {
      const Decoded& decoded = answers.emplace_back(decode(input, size));
      if (decoded.err != 0) {
        refused++;
        CHECK(decoded.err == -EBADMSG || (decoded.err == -EINVAL && input.bits > 7));
      } else {
        CHECK_EQ(decoded.bytes.size(), size);
        CHECK_EQ(decoded.result.streamBytes, size);
        if (digested) CHECK(decoded.bytes == expected);
        (decoded.bytes == expected ? same : other)++;
      }
    });
    if (answers.size() < 2) continue;
    const bool byZlib = answers[0].err == 0, byIsal = answers[1].err == 0;
    // Above all not what the library had in memory, where a window is too short.
    if (byZlib && byIsal) CHECK(answers[0].bytes == answers[1].bytes);
    CHECK(byIsal || !byZlib);
    if (byIsal && !byZlib) alone++;
  }
  std::printf("%d refused, %d right, %d of the stated size without a digest, %d by ISA-L alone\n", refused, same, other, alone);
  CHECK(alone <= 1 + rounds / 1'000);
  CHECK(refused > rounds);
}

TEST(both_backends_agree_on_noise) {
  const int rounds = static_cast<int>(3'000 * check::scale());
  for (int round = 0; round < rounds; round++) {
    check::Random random{static_cast<uint64_t>(round) + 1'000'000};
    Bytes noise(1 + random.below(300));
    for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random.next());
    peel::DecodeInput input;
    input.kind = peel::SpanKind::GzipCheckpoint;
    input.bits = static_cast<uint8_t>(random.below(8));
    input.data = noise.data();
    input.size = noise.size();
    const uint64_t size = random.below(400);
    std::vector<Decoded> answers;
    onEachBackend([&] { answers.push_back(decode(input, size)); });
    if (answers.size() == 2 && answers[0].err == 0 && answers[1].err == 0) CHECK(answers[0].bytes == answers[1].bytes);
  }
}

TEST_MAIN
