// Both inflaters of the scan make the same stream and the same checkpoints of every blob, in pieces of any size; what one of
// them refuses the other one does not let through.
#ifdef PEEL_ISAL
#include <isa-l/igzip_lib.h>
#endif

#include "gzip_fixture.hpp"

using namespace fixture;
using peel::CheckpointScan;
using peel::InflateBackend;
using peel::ScanStatus;

namespace {

struct Scanned {
  Bytes stream;
  bool whole = false;
  std::vector<peel::Checkpoint> points;
  std::vector<Bytes> windows;
};

// `feed` and `room`: pieces of up to so many bytes.
Scanned scan(InflateBackend backend, const Bytes& blob, uint64_t spanSize, size_t feed, size_t room, uint64_t seed) {
  Scanned scanned;
  CheckpointScan scan(spanSize, backend);
  check::Random random{seed};
  ScanStatus status = ScanStatus::NeedInput;
  uint64_t consumed = 0;
  for (size_t at = 0; at < blob.size() && status == ScanStatus::NeedInput;) {
    // Memory of its own, so that a sanitizer sees what is read beyond.
    const size_t length = std::min<size_t>(blob.size() - at, 1 + random.below(feed));
    const Bytes piece(blob.begin() + static_cast<ptrdiff_t>(at), blob.begin() + static_cast<ptrdiff_t>(at + length));
    scan.feed(piece.data(), piece.size());
    do {
      Bytes out(1 + random.below(room));
      size_t produced = 0;
      const size_t known = scan.checkpoints().size();
      status = scan.run(out.data(), out.size(), produced);
      CHECK(produced <= out.size());
      scanned.stream.insert(scanned.stream.end(), out.data(), out.data() + produced);
      CHECK_EQ(scan.produced(), scanned.stream.size());
      // What hashes the spans relies on this.
      for (size_t i = known; i < scan.checkpoints().size(); i++) {
        CHECK(scan.checkpoints()[i].in >= consumed && scan.checkpoints()[i].in <= scan.consumed());
      }
      CHECK(scan.consumed() >= consumed && scan.consumed() <= at + length);
      consumed = scan.consumed();
    } while (status == ScanStatus::OutputFull);
    at += length;
    if (status == ScanStatus::NeedInput) CHECK_EQ(consumed, at);
  }
  scanned.whole = status == ScanStatus::NeedInput && scan.atEnd();
  scanned.points = scan.checkpoints();
  for (size_t i = 0; i < scanned.points.size(); i++) {
    scanned.windows.emplace_back(scan.window(i).get(), scan.window(i).get() + peel::kWindow);
  }
  return scanned;
}

Scanned plainly(const Bytes& blob, uint64_t spanSize) {
  return scan(InflateBackend::Zlib, blob, spanSize, 1 << 16, 1 << 16, 0);
}

void same(const Scanned& a, const Scanned& b) {
  CHECK_EQ(a.whole, b.whole);
  CHECK(a.stream == b.stream);
  CHECK_EQ(a.points.size(), b.points.size());
  for (size_t i = 0; i < a.points.size(); i++) {
    CHECK_EQ(a.points[i].in, b.points[i].in);
    CHECK_EQ(a.points[i].out, b.points[i].out);
    CHECK_EQ(a.points[i].bits, b.points[i].bits);
    CHECK(a.windows[i] == b.windows[i]);
  }
}

void sameInAnyPieces(const Bytes& blob, uint64_t spanSize) {
  const Scanned expected = plainly(blob, spanSize);
  CHECK(expected.whole);
  for (size_t feed : {size_t{1} << 24, size_t{50'000}, size_t{700}}) {
    for (size_t room : {size_t{1} << 20, size_t{40'000}, size_t{900}}) {
      same(scan(InflateBackend::Isal, blob, spanSize, feed, room, feed + room), expected);
    }
  }
  if (blob.size() < 30'000) same(scan(InflateBackend::Isal, blob, spanSize, 1, 7, 1), expected);
}

constexpr uint64_t kSpans[] = {0, 1, 500, 20'000, 70'000, 300'000, 1 << 30};

void sameForAnySpan(const Bytes& blob) {
  for (uint64_t span : kSpans) sameInAnyPieces(blob, span);
}

// Runs of `every` bytes, each ended by one of the flushes: blocks of all kinds and sizes, and empty ones.
Bytes flushed(const Bytes& plain, int level, size_t every, std::initializer_list<int> flushes, uint64_t seed) {
  z_stream stream{};
  CHECK_EQ(deflateInit2(&stream, level, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
  check::Random random{seed};
  Bytes out(plain.size() * 2 + 1'000'000);
  stream.next_out = out.data();
  stream.avail_out = static_cast<uInt>(out.size());
  for (size_t at = 0; at < plain.size();) {
    const size_t length = std::min<size_t>(plain.size() - at, random.below(every));
    stream.next_in = const_cast<Bytef*>(plain.data() + at);
    stream.avail_in = static_cast<uInt>(length);
    const int flush = std::data(flushes)[random.below(flushes.size())];
    CHECK(deflate(&stream, flush) >= Z_BUF_ERROR);
    CHECK_EQ(stream.avail_in, 0u);
    if (random.below(8) == 0) deflateParams(&stream, static_cast<int>(random.below(10)), Z_DEFAULT_STRATEGY);
    at += length;
  }
  CHECK_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// A member of deflate bits as they are.
Bytes wrapped(const Bytes& deflated, const Bytes& plain) {
  Bytes blob = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};
  blob.insert(blob.end(), deflated.begin(), deflated.end());
  const uint32_t crc = peel::gzipCrc(0, plain.data(), plain.size());
  for (uint32_t word : {crc, static_cast<uint32_t>(plain.size())}) {
    for (int i = 0; i < 4; i++) blob.push_back(static_cast<uint8_t>(word >> (8 * i)));
  }
  return blob;
}

}  // namespace

TEST(levels_and_strategies) {
  const Bytes plain = material(500'000, 60);
  for (int level = 0; level <= 9; level++) {
    const Bytes blob = member(plain, {.level = level, .fields = level % 2 == 0});
    for (uint64_t span : {uint64_t{1}, uint64_t{70'000}}) sameInAnyPieces(blob, span);
  }
  for (int strategy : {Z_FIXED, Z_HUFFMAN_ONLY, Z_RLE, Z_FILTERED}) sameForAnySpan(member(plain, {.strategy = strategy}));
  sameForAnySpan(member(plain));
  sameForAnySpan(member(Bytes(3 << 20, 'z')));
  // Noise, which deflate stores.
  Bytes noise(300'000);
  check::Random random{61};
  for (auto& byte : noise) byte = static_cast<uint8_t>(random.next());
  sameForAnySpan(member(noise));
  sameForAnySpan(member(noise, {.strategy = Z_HUFFMAN_ONLY}));
}

TEST(blocks_that_were_flushed) {
  const Bytes plain = material(300'000, 62);
  for (size_t every : {300u, 5'000u, 80'000u}) {
    for (int level : {0, 1, 6}) {
      const Bytes blob = flushed(plain, level, every, {Z_SYNC_FLUSH, Z_FULL_FLUSH, Z_PARTIAL_FLUSH, Z_BLOCK}, every);
      for (uint64_t span : {0u, 1u, 9'000u, 40'000u}) sameInAnyPieces(blob, span);
    }
  }
}

TEST(members) {
  check::Random random{63};
  Bytes blob;
  for (int i = 0; i < 60; i++) {
    const size_t size = random.below(3) == 0 ? random.below(3) : random.below(i % 10 == 0 ? 150'000 : 9'000);
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

TEST(a_distance_into_the_member_before) {
  // One literal, then a match of distance 2 in fixed codes: right behind another member, its bytes are not to be had.
  const Bytes deflated = {0x4b, 0x04, 0x42, 0x00};
  for (const Bytes& blob : {wrapped(deflated, Bytes(4, 'a')), join({member(material(70'000, 65)), wrapped(deflated, Bytes(4, 'a'))})}) {
    for (auto backend : {InflateBackend::Zlib, InflateBackend::Isal}) {
      if (backend == InflateBackend::Isal && !peel::hasIsal()) continue;
      CHECK(!scan(backend, blob, 1'000, 1 << 20, 1 << 20, 0).whole);
    }
  }
}

#ifdef PEEL_ISAL
TEST(made_by_igzip) {
  const Bytes plain = material(700'000, 66);
  for (uint32_t level = 0; level <= 3; level++) {
    for (uint16_t flush : {NO_FLUSH, SYNC_FLUSH, FULL_FLUSH}) {
      const uint32_t sizes[] = {ISAL_DEF_LVL0_DEFAULT, ISAL_DEF_LVL1_DEFAULT, ISAL_DEF_LVL2_DEFAULT, ISAL_DEF_LVL3_DEFAULT};
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
  const int rounds = std::max(60, static_cast<int>(3000 * check::scale()));
  size_t refused = 0;
  for (int i = 0; i < rounds; i++) {
    const Bytes plain = material(random.below(40'000), random.next());
    Bytes blob = random.below(3) == 0 ? flushed(plain, static_cast<int>(random.below(10)), 4'000, {Z_SYNC_FLUSH, Z_BLOCK}, i)
                                      : member(plain, {.level = static_cast<int>(random.below(10)),
                                                       .strategy = static_cast<int>(random.below(5)),
                                                       .fields = random.below(4) == 0});
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
    CHECK_EQ(got.whole, expected.whole);
    if (got.whole) {
      same(got, expected);
      continue;
    }
    refused++;
    const size_t both = std::min(got.stream.size(), expected.stream.size());
    CHECK(std::equal(got.stream.begin(), got.stream.begin() + static_cast<ptrdiff_t>(both), expected.stream.begin()));
  }
  CHECK(refused > static_cast<size_t>(rounds) / 4);
}

TEST_MAIN
