// The finer table lies where its rule puts it, and its windows hold exactly what the spans reach, by both backends.
#include <zstd.h>

#include "gzip/window_reach.hpp"
#include "indexer_fixture.hpp"
#include "scan_fixture.hpp"

using namespace fixture;
using peel::kWindow;

namespace {

constexpr size_t kMaxContent = 32'776, kMaxFrame = 33'280;  // of docs/peel-index.md

// The rule once more, as plainly as it can be said.
std::vector<peel::Checkpoint> byTheFineRule(const Bytes& blob, uint64_t spanSize, size_t streamSize) {
  std::vector<peel::Checkpoint> points;
  uint64_t member = 0;
  bool first = true;
  z_stream z{};
  CHECK_EQ(inflateInit2(&z, 47), Z_OK);
  Bytes stream(streamSize + 1);
  z.next_in = const_cast<Bytef*>(blob.data());
  z.avail_in = static_cast<uInt>(blob.size());
  z.next_out = stream.data();
  z.avail_out = static_cast<uInt>(stream.size());
  while (z.avail_in > 0) {
    const int status = inflate(&z, Z_BLOCK);
    const uint64_t in = blob.size() - z.avail_in, out = stream.size() - z.avail_out;
    if (status == Z_STREAM_END) {
      if (z.avail_in == 0 || *z.next_in == 0) break;
      first = true;
      CHECK_EQ(inflateReset2(&z, 47), Z_OK);
      continue;
    }
    CHECK_EQ(status, Z_OK);
    if (!(z.data_type & 128) || (z.data_type & 64)) continue;
    if (first) member = out;
    const bool far = points.empty() || out - points.back().out > spanSize;
    if (far && (first || out - member > spanSize)) points.push_back({in, out, static_cast<uint8_t>(z.data_type & 7)});
    first = false;
  }
  inflateEnd(&z);
  return points;
}

Bytes unframed(const peel::WindowFrame& frame) {
  if (frame.bytes.empty()) {
    CHECK(frame.sha256 == peel::Sha256Digest{});
    return {};
  }
  CHECK(frame.sha256 == peel::Sha256::of(frame.bytes.data(), frame.bytes.size()));
  CHECK(frame.bytes.size() <= kMaxFrame);
  Bytes content(kMaxContent);
  const size_t size = ZSTD_decompress(content.data(), content.size(), frame.bytes.data(), frame.bytes.size());
  CHECK(!ZSTD_isError(size));
  CHECK_EQ(ZSTD_getFrameContentSize(frame.bytes.data(), frame.bytes.size()), size);
  size_t at = 0;
  const auto number = [&] {
    size_t value = 0;
    for (int shift = 0;; shift += 7) {
      CHECK(at < size);
      value |= static_cast<size_t>(content[at] & 127) << shift;
      if (content[at++] < 128) return value;
    }
  };
  std::vector<std::pair<size_t, size_t>> runs(number());
  for (auto& [gap, length] : runs) {
    gap = number();
    length = number();
  }
  Bytes window(kWindow);
  size_t place = 0;
  for (const auto& [gap, length] : runs) {
    CHECK(length > 0 && (place == 0 || gap > 3));
    place += gap;
    CHECK(place + length <= kWindow && at + length <= size);
    std::copy_n(content.data() + at, length, window.data() + place);
    place += length;
    at += length;
  }
  CHECK_EQ(at, size);
  return window;
}

struct Fine {
  Bytes stream;
  std::vector<Span> spans;  // with their sparse windows; none where none is needed
};

Fine indexFinely(const Bytes& blob, uint64_t spanSize, size_t feed = 1 << 16, size_t room = 1 << 17) {
  Fine fine;
  StreamIndexer indexer({StreamIndexer::Format::Gzip, 1 << 20, -1, spanSize});
  const auto index = run(indexer, blob, feed, room, fine.stream);
  CHECK(index.failure == StreamIndexer::Failure::None);
  const auto& points = index.fine->checkpoints;
  CHECK_EQ(index.fine->frames.size(), points.size());
  CHECK_EQ(index.fine->spanSha256.size(), points.size());
  for (size_t i = 0; i < points.size(); i++) {
    const bool last = i + 1 == points.size();
    const auto from = blob.begin() + static_cast<ptrdiff_t>(points[i].in - (points[i].bits ? 1 : 0));
    const auto to = last ? blob.end() : blob.begin() + static_cast<ptrdiff_t>(points[i + 1].in);
    Span span;
    span.data.assign(from, to);
    span.window = unframed(index.fine->frames[i]);
    span.bits = points[i].bits;
    span.start = points[i].out;
    span.end = last ? fine.stream.size() : points[i + 1].out;
    span.sha256 = index.fine->spanSha256[i];
    fine.spans.push_back(std::move(span));
  }
  return fine;
}

Bytes fullWindow(const Bytes& stream, uint64_t out) {
  Bytes window(kWindow, 0);
  const size_t known = std::min<size_t>(out, kWindow);
  std::copy_n(stream.data() + out - known, known, window.end() - static_cast<ptrdiff_t>(known));
  return window;
}

// Returns the windows' bytes that are not 0.
size_t everySpanDecodes(const Fine& fine) {
  size_t kept = 0;
  for (size_t i = 0; i < fine.spans.size(); i++) {
    const Span& span = fine.spans[i];
    const auto from = fine.stream.begin();
    const Bytes expected(from + static_cast<ptrdiff_t>(span.start), from + static_cast<ptrdiff_t>(span.end));
    const Decoded decoded = decode(inputOf(span, i + 1 == fine.spans.size()), expected.size());
    CHECK_EQ(decoded.err, 0);
    CHECK(decoded.bytes == expected);
    if (span.window.empty()) continue;
    const Bytes full = fullWindow(fine.stream, span.start);
    for (size_t p = 0; p < kWindow; p++) {
      CHECK(span.window[p] == 0 || span.window[p] == full[p]);
      kept += span.window[p] != 0;
    }
  }
  return kept;
}

void indexedRight(const Bytes& blob, uint64_t spanSize) {
  onEachBackend([&] {
    const Fine fine = indexFinely(blob, spanSize);
    const auto points = byTheFineRule(blob, spanSize, fine.stream.size());
    CHECK_EQ(fine.spans.size(), points.size());
    for (size_t i = 0; i < points.size(); i++) {
      CHECK_EQ(fine.spans[i].start, points[i].out);
      CHECK_EQ(fine.spans[i].bits, points[i].bits);
      CHECK(i + 1 < points.size() || fine.spans[i].data.size() == blob.size() - points[i].in + (points[i].bits ? 1 : 0));
    }
    everySpanDecodes(fine);
  });
}

// The first bytes of the stream of a span, by zlib; what a window is for.
Bytes startOf(const Span& span, const Bytes& window) {
  z_stream z{};
  CHECK_EQ(inflateInit2(&z, -15), Z_OK);
  z.next_in = const_cast<Bytef*>(span.data.data()) + (span.bits ? 1 : 0);
  z.avail_in = static_cast<uInt>(span.data.size() - (span.bits ? 1 : 0));
  if (span.bits) inflatePrime(&z, span.bits, span.data[0] >> (8 - span.bits));
  CHECK_EQ(inflateSetDictionary(&z, window.data(), kWindow), Z_OK);
  Bytes out(kWindow);
  z.next_out = out.data();
  z.avail_out = kWindow;
  const int status = inflate(&z, Z_NO_FLUSH);
  CHECK(status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR);
  out.resize(kWindow - z.avail_out);
  inflateEnd(&z);
  return out;
}

// Every byte, or some: one that is said to be reached changes what comes out, all others together do not.
void reachedAndNoOther(const Span& span, const Bytes& full, size_t most, uint64_t seed) {
  check::Random random{seed};
  // No zeros, so that those that were set can be told.
  Bytes window = full;
  for (uint8_t& byte : window) byte |= 1;
  const Bytes expected = startOf(span, window);
  Bytes kept = window;
  const bool any = peel::keepReached(kept.data(), span.data.data(), std::min(span.data.size(), peel::kReachInput), span.bits);
  Bytes noise = window;
  std::vector<size_t> reached;
  for (size_t p = 0; p < kWindow; p++) {
    CHECK(kept[p] == 0 || kept[p] == window[p]);
    if (kept[p]) reached.push_back(p);
    else noise[p] = static_cast<uint8_t>(random.next());
  }
  CHECK_EQ(any, !reached.empty());
  CHECK(startOf(span, noise) == expected);
  CHECK(startOf(span, kept) == expected);
  for (size_t i = 0; i < std::min(most, reached.size()); i++) {
    const size_t p = most < reached.size() ? reached[random.below(reached.size())] : reached[i];
    Bytes flipped = window;
    flipped[p] ^= 0x80;
    CHECK(startOf(span, flipped) != expected);
  }
}

Bytes text(size_t size, uint64_t seed) {
  check::Random random{seed};
  std::string all;
  while (all.size() < size) all += "line " + std::to_string(random.below(3'000)) + " of " + std::to_string(size) + "\n";
  return Bytes(all.begin(), all.begin() + static_cast<ptrdiff_t>(size));
}

// Blobs whose spans begin in every way.
std::vector<Bytes> blobs() {
  Bytes members;
  check::Random random{80};
  for (int i = 0; i < 25; i++) {
    const size_t size = i % 6 == 0 ? 100'000 : random.below(20'000);
    members = join({members, member(material(size, 400 + i), {.level = i % 10, .fields = i % 4 == 0})});
  }
  return {
      member(material(500'000, 81)),
      member(text(500'000, 82), {.level = 9}),
      member(material(200'000, 83), {.strategy = Z_FIXED}),
      member(material(300'000, 84), {.level = 0}),
      member(Bytes(2 << 20, 'z')),
      flushed(material(300'000, 85), 6, 3'000, {Z_SYNC_FLUSH, Z_FULL_FLUSH, Z_PARTIAL_FLUSH, Z_BLOCK}, 86),
      join({member({}), member({}), members, Bytes(600, 0)}),
      member({}),
  };
}

}  // namespace

TEST(spans_by_the_fine_rule_decode_with_sparse_windows) {
  for (const Bytes& blob : blobs()) {
    for (uint64_t span : {4'096u, 30'000u, 256u << 10}) indexedRight(blob, span);
  }
}

TEST(members_up_to_the_span_size_are_not_cut) {
  Bytes blob;
  for (int i = 0; i < 20; i++) blob = join({blob, member(material(40'000, 500 + i), {.flushEvery = 5'000})});
  onEachBackend([&] {
    const Fine fine = indexFinely(blob, 40'000);
    CHECK_EQ(fine.spans.size(), 10u);
    for (const Span& span : fine.spans) {
      CHECK_EQ(span.start % 80'000, 0u);
      CHECK(span.window.empty());
    }
    // One byte less, and each is cut before the empty block at its end, from where the next member counts.
    const Fine cut = indexFinely(blob, 39'999);
    CHECK_EQ(cut.spans.size(), 21u);
    everySpanDecodes(cut);
  });
}

TEST(windows_are_sparse) {
  const Bytes stream = text(2 << 20, 87);
  const Fine fine = indexFinely(member(stream), 100'000);
  CHECK(fine.spans.size() > 5);
  const size_t kept = everySpanDecodes(fine);
  CHECK(kept > 0 && kept < fine.spans.size() * kWindow / 2);
  CHECK(fine.spans[0].window.empty());
  // What is stored, or flushed so that nothing reaches over, needs none.
  for (const Span& span : indexFinely(member(stream, {.level = 0}), 100'000).spans) CHECK(span.window.empty());
  for (const Span& span : indexFinely(flushed(stream, 6, 9'000, {Z_FULL_FLUSH}, 88), 100'000).spans) {
    CHECK(span.window.empty());
  }
}

TEST(marked_is_what_is_reached) {
  const auto most = static_cast<size_t>(200 * check::scale());
  uint64_t seed = 0;
  for (const Bytes& blob : blobs()) {
    const Layer layer = index(blob, 60'000);
    onEachBackend([&] {
      for (const Span& span : layer.spans) reachedAndNoOther(span, fullWindow(layer.stream, span.start), most, seed++);
    });
  }
  // All of them, where a member ends soon and another one follows.
  const Bytes stream = material(36'000, 89);
  const Layer layer = index(join({member(stream, {.flushEvery = 35'000}), member(material(90'000, 90))}), 34'000);
  CHECK_EQ(layer.spans[1].start, 35'000u);
  onEachBackend([&] { reachedAndNoOther(layer.spans[1], fullWindow(layer.stream, 35'000), kWindow, 0); });
}

TEST(the_same_in_pieces_of_any_size) {
  const Bytes blob = join({member(material(150'000, 91)), member(text(100'000, 92), {.fields = true})});
  onEachBackend([&] {
    const Fine expected = indexFinely(blob, 9'000);
    using Pieces = std::pair<size_t, size_t>;
    for (const auto& [feed, room] : {Pieces{1u << 24, 1u << 20}, {997, 777}, {13, 40'000}}) {
      const Fine fine = indexFinely(blob, 9'000, feed, room);
      CHECK_EQ(fine.spans.size(), expected.spans.size());
      for (size_t i = 0; i < fine.spans.size(); i++) {
        CHECK(fine.spans[i].window == expected.spans[i].window);
        CHECK(fine.spans[i].sha256 == expected.spans[i].sha256);
      }
    }
  });
}

TEST(blocks_that_hold_next_to_nothing) {
  // Some 8 bytes for each byte of stream: the first 32 KiB are not all looked at, and everything stays.
  const Bytes stream = material(160'000, 93);
  const Bytes blob = join({member(stream, {.flushEvery = 1})});
  onEachBackend([&] {
    const Fine fine = indexFinely(blob, 70'000, 1 << 20, 1 << 20);
    CHECK_EQ(fine.spans.size(), 3u);
    everySpanDecodes(fine);
    for (size_t i : {1u, 2u}) CHECK(fine.spans[i].window == fullWindow(stream, fine.spans[i].start));
  });
}

TEST(the_last_byte_that_reaches) {
  // So many bytes stored, then a match of 3 bytes from 32 768 bytes before, in a fixed block.
  for (size_t stored = kWindow - 4; stored <= kWindow; stored++) {
    const auto low = static_cast<uint8_t>(stored), high = static_cast<uint8_t>(stored >> 8);
    const auto notLow = static_cast<uint8_t>(~low), notHigh = static_cast<uint8_t>(~high);
    const Bytes data = join({{0, low, high, notLow, notHigh}, material(stored, 94), {0x03, 0xde, 0xff, 0x0f, 0}});
    onEachBackend([&] {
      Bytes window(kWindow, 7), expected(kWindow, 0);
      std::fill(expected.begin() + static_cast<ptrdiff_t>(stored), expected.begin() + static_cast<ptrdiff_t>(std::min(stored + 3, kWindow)), 7);
      CHECK_EQ(peel::keepReached(window.data(), data.data(), data.size(), 0), stored < kWindow);
      CHECK(window == expected);
    });
  }
}

TEST(frames_give_back_their_windows) {
  check::Random random{95};
  const auto same = [](const Bytes& window) { CHECK(unframed(peel::windowFrame(window.data())) == window); };
  same(Bytes(kWindow, 0));
  same(Bytes(kWindow, 1));
  for (size_t p : {size_t{0}, size_t{127}, size_t{128}, kWindow - 1}) {
    Bytes window(kWindow, 0);
    window[p] = 9;
    same(window);
  }
  // As many runs as there can be, and bytes that no code makes fewer, with gaps of every size between them.
  for (size_t gap = 0; gap < 9; gap++) {
    for (size_t length : {1u, 2u, 127u, 128u, 20'000u}) {
      Bytes window(kWindow, 0);
      for (size_t p = 0; p < kWindow; p++) {
        if (p % (length + gap) < length) window[p] = static_cast<uint8_t>(1 + random.below(255));
      }
      same(window);
    }
  }
  for (int round = 0; round < 60 * check::scale(); round++) {
    Bytes window(kWindow, 0);
    for (size_t p = random.below(3'000); p < kWindow; p += 1 + random.below(2'000)) {
      for (size_t end = std::min(kWindow, p + random.below(300)); p < end; p++) window[p] = static_cast<uint8_t>(random.next());
    }
    same(window);
  }
}

TEST(nothing_to_look_at) {
  Bytes window(kWindow, 7);
  const Bytes nonsense(100, 0xff);
  CHECK(peel::keepReached(window.data(), nonsense.data(), 0, 3));
  CHECK(peel::keepReached(window.data(), nonsense.data(), 0, 0));
  CHECK(peel::keepReached(window.data(), nonsense.data(), nonsense.size(), 0));
  CHECK(window == Bytes(kWindow, 7));
}

TEST_MAIN
