// Both inflaters of the scan make the same stream and the same checkpoints of every blob, in pieces of any size; what
// one of them refuses the other one does not let through.
#ifdef PEEL_ISAL
#include <isa-l/igzip_lib.h>
#endif

#include <utility>

#include "scan_fixture.hpp"

using namespace fixture;

namespace {

bool isLongRun() { return check::scale() >= 1; }

void sameInAnyPieces(const Bytes& blob, uint64_t spanSize) {
  // Coarse where the other table is fine, and the other way round.
  const uint64_t fine = 90'000 / (spanSize + 1) + 1;
  const Scanned expected = plainly(blob, spanSize, fine);
  CHECK(expected.whole);
  same(expected, plainly(blob, spanSize));
  if (!peel::hasIsal()) return;
  using Pieces = std::pair<size_t, size_t>;
  for (const auto& [feed, room] : {Pieces{1 << 24, 1 << 20}, {50'000, 40'000}, {2'000, 30'000}, {40'000, 900}}) {
    if (!isLongRun() && (feed == 1 << 24 || feed == 2'000)) continue;
    const Scanned got = scan(InflateBackend::Isal, blob, spanSize, feed, room, feed + room, fine);
    same(got, expected);
    sameFine(got, expected);
  }
  if (expected.stream.size() >= 12'000) return;
  const Scanned got = scan(InflateBackend::Isal, blob, spanSize, 1, 7, 1, fine);
  same(got, expected);
  sameFine(got, expected);
}

constexpr uint64_t kSpans[] = {0, 1, 20'000, 70'000, 1 << 30};

void sameForAnySpan(const Bytes& blob) {
  for (uint64_t span : kSpans) {
    if (isLongRun() || (span != 0 && span != 70'000)) sameInAnyPieces(blob, span);
  }
}

void bothRefuse(const Bytes& blob) {
  onEachBackend([&] {
    for (size_t pieces : {size_t{1} << 20, size_t{3}}) {
      CHECK(!scan(peel::inflateBackend(), blob, 1'000, pieces, std::min(pieces * 100, size_t{1} << 20), 0).whole);
    }
  });
}

}  // namespace

TEST(levels_and_strategies) {
  const Bytes plain = material(250'000, 60);
  for (int level = 0; level <= 9; level += isLongRun() ? 1 : 3) {
    const Bytes blob = member(plain, {.level = level, .fields = level % 2 == 0});
    for (uint64_t span : {uint64_t{1}, uint64_t{70'000}}) sameInAnyPieces(blob, span);
  }
  for (int strategy : {Z_FIXED, Z_HUFFMAN_ONLY, Z_RLE, Z_FILTERED})
    sameForAnySpan(member(plain, {.strategy = strategy}));
  sameForAnySpan(member(plain));
  sameForAnySpan(member(Bytes(1 << 20, 'z')));
  // Noise, which deflate stores.
  Bytes noise(200'000);
  check::Random random{61};
  for (auto& byte : noise) byte = static_cast<uint8_t>(random.next());
  sameForAnySpan(member(noise));
  sameForAnySpan(member(noise, {.strategy = Z_HUFFMAN_ONLY}));
}

TEST(blocks_that_were_flushed) {
  const Bytes plain = material(150'000, 62);
  for (size_t every : {300u, 5'000u, 80'000u}) {
    for (int level : {0, 1, 6}) {
      const Bytes blob = flushed(plain, level, every, {Z_SYNC_FLUSH, Z_FULL_FLUSH, Z_PARTIAL_FLUSH, Z_BLOCK}, every);
      for (uint64_t span : {1u, 9'000u, 40'000u}) sameInAnyPieces(blob, span);
    }
  }
}

TEST(members) {
  check::Random random{63};
  Bytes blob;
  for (int i = 0; i < 40; i++) {
    const size_t size = random.below(3) == 0 ? random.below(3) : random.below(i % 10 == 0 ? 120'000 : 5'000);
    const Bytes one = member(material(size, random.next()), {.level = i % 10, .fields = i % 4 == 0});
    blob.insert(blob.end(), one.begin(), one.end());
  }
  sameForAnySpan(blob);
  sameForAnySpan(join({member({}), member({}), blob, member({}), Bytes(5'000, 0)}));
  sameForAnySpan(member({}));
}

TEST(blocks_made_by_hand) {
  // Empty blocks of all kinds before, between and behind one byte: 00 stored, 01 fixed with nothing but its end.
  const Bytes stored = {0, 0, 0, 255, 255}, one = {0, 1, 0, 254, 255, 'x'}, last = {1, 0, 0, 255, 255};
  const Bytes fixedEmpty = {2, 0};  // 10 bits, and the next block begins in its second byte
  const Bytes lastFixed = {3, 0};
  sameForAnySpan(wrapped(join({stored, stored, one, stored, stored, last}), {'x'}));
  sameForAnySpan(wrapped(join({one, one, one, stored, one, lastFixed}), {'x', 'x', 'x', 'x'}));
  sameForAnySpan(wrapped(join({stored, fixedEmpty, {0, 0, 255, 255}, one, lastFixed}), {'x'}));
  // A block of 64 KiB less one byte, the longest stored one.
  Bytes longest = {0, 255, 255, 0, 0};
  const Bytes noise = material(65'535, 64);
  longest.insert(longest.end(), noise.begin(), noise.end());
  sameForAnySpan(wrapped(join({longest, longest, last}), join({noise, noise})));
}

TEST(distances_into_the_member_before) {
  // Deflated with what came before as a dictionary: whoever looks for it there finds the bytes that the trailer tells.
  const Bytes before = material(70'000, 65), plain(before.end() - 3'000, before.end());
  z_stream stream{};
  CHECK_EQ(deflateInit2(&stream, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
  CHECK_EQ(deflateSetDictionary(&stream, before.data(), static_cast<uInt>(before.size())), Z_OK);
  Bytes deflated(10'000);
  stream.next_in = const_cast<Bytef*>(plain.data());
  stream.avail_in = static_cast<uInt>(plain.size());
  stream.next_out = deflated.data();
  stream.avail_out = static_cast<uInt>(deflated.size());
  CHECK_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  deflated.resize(stream.total_out);
  deflateEnd(&stream);
  CHECK(deflated.size() < 300);
  const Bytes reaching = wrapped(deflated, plain);
  bothRefuse(reaching);
  bothRefuse(join({member(before), reaching}));
  bothRefuse(join({member(before), member({'x'}), reaching}));
}

TEST(trailers) {
  const Bytes blob = member(material(5'000, 68));
  for (size_t i = 1; i <= 8; i++) {
    Bytes wrong = blob;
    wrong[wrong.size() - i] ^= 1;
    bothRefuse(wrong);
    bothRefuse(join({wrong, blob}));
  }
}

#ifdef PEEL_ISAL
TEST(made_by_igzip) {
  const Bytes plain = material(200'000, 66);
  for (uint32_t level = 0; level <= 3; level++) {
    for (uint16_t flush : {NO_FLUSH, FULL_FLUSH}) {
      const uint32_t sizes[] = {ISAL_DEF_LVL0_DEFAULT, ISAL_DEF_LVL1_DEFAULT, ISAL_DEF_LVL2_DEFAULT,
                                ISAL_DEF_LVL3_DEFAULT};
      Bytes buffer(sizes[level] + 1), out(2 * plain.size());
      isal_zstream stream;
      isal_deflate_init(&stream);
      stream.level = level;
      stream.level_buf = buffer.data();
      stream.level_buf_size = sizes[level];
      stream.gzip_flag = IGZIP_GZIP;
      stream.flush = flush;
      stream.next_out = out.data();
      stream.avail_out = static_cast<uint32_t>(out.size());
      for (size_t at = 0; at < plain.size(); at += 50'000) {
        stream.next_in = const_cast<uint8_t*>(plain.data() + at);
        stream.avail_in = static_cast<uint32_t>(std::min<size_t>(50'000, plain.size() - at));
        stream.end_of_stream = at + 50'000 >= plain.size();
        CHECK_EQ(isal_deflate(&stream), COMP_OK);
      }
      out.resize(stream.total_out);
      for (uint64_t span : {1u, 70'000u}) sameInAnyPieces(out, span);
    }
  }
}
#endif

TEST(damaged_blobs) {
  if (!peel::hasIsal()) return;
  check::Random random{67};
  const int rounds = isLongRun() ? static_cast<int>(3000 * check::scale()) : 150;
  size_t refused = 0, lenient = 0;
  for (int i = 0; i < rounds; i++) {
    const Bytes plain = material(random.below(40'000), random.next());
    const int level = static_cast<int>(random.below(10)), strategy = static_cast<int>(random.below(5));
    Bytes blob = random.below(3) == 0
                     ? flushed(plain, level, 4'000, {Z_SYNC_FLUSH, Z_BLOCK}, i)
                     : member(plain, {.level = level, .strategy = strategy, .fields = random.below(4) == 0});
    if (random.below(3) == 0) blob = join({blob, member(plain), Bytes(random.below(20), 0)});
    const size_t hits = random.below(4);
    for (size_t hit = 0; hit < hits; hit++) {
      // Most where headers and tables are.
      const size_t at = random.below(random.below(2) ? blob.size() : std::min<size_t>(blob.size(), 100));
      blob[at] ^= static_cast<uint8_t>(1 << random.below(8));
    }
    if (random.below(3) == 0) blob.resize(random.below(blob.size() + 1));
    const uint64_t span = kSpans[random.below(std::size(kSpans))];
    const Scanned expected = plainly(blob, span);
    const Scanned got = scan(InflateBackend::Isal, blob, span, 1 + random.below(60'000), 1 + random.below(60'000), i);
    if (expected.whole) {
      same(got, expected);
      continue;
    }
    // ISA-L lets an incomplete code for distances pass where a block has none: the trailers vouch for the bytes.
    if (got.whole) {
      lenient++;
      const Bytes undamaged = join({plain, plain});
      CHECK(got.stream.size() <= undamaged.size());
      CHECK(std::equal(got.stream.begin(), got.stream.end(), undamaged.begin()));
    }
    refused++;
    const size_t both = std::min(got.stream.size(), expected.stream.size());
    CHECK(std::equal(got.stream.begin(), got.stream.begin() + static_cast<ptrdiff_t>(both), expected.stream.begin()));
  }
  CHECK(refused > static_cast<size_t>(rounds) / 4);
  CHECK(lenient <= 1 + static_cast<size_t>(rounds) / 1000);
}

TEST_MAIN
