// Checkpoints lie where SOCI's rule puts them, whatever the sizes of the buffers, and everything hashed is hashed right.
#include <unistd.h>

#include "indexer_fixture.hpp"

using namespace fixture;

namespace {

// The rule once more, as plainly as it can be said: the whole blob and the whole stream in memory.
std::vector<peel::Checkpoint> byTheRule(const Bytes& blob, uint64_t spanSize, Bytes& stream) {
  std::vector<peel::Checkpoint> points;
  z_stream z{};
  CHECK_EQ(inflateInit2(&z, 47), Z_OK);
  stream.assign(8 << 20, 0);
  z.next_in = const_cast<Bytef*>(blob.data());
  z.avail_in = static_cast<uInt>(blob.size());
  z.next_out = stream.data();
  z.avail_out = static_cast<uInt>(stream.size());
  while (z.avail_in > 0) {
    const int status = inflate(&z, Z_BLOCK);
    const uint64_t in = blob.size() - z.avail_in, out = stream.size() - z.avail_out;
    if (status == Z_STREAM_END) {
      CHECK_EQ(inflateReset2(&z, 47), Z_OK);
      continue;
    }
    CHECK_EQ(status, Z_OK);
    if ((z.data_type & 128) && !(z.data_type & 64) && (out == 0 || out - points.back().out > spanSize)) {
      if (out > 0 || points.empty()) points.push_back({in, out, static_cast<uint8_t>(z.data_type & 7)});
    }
  }
  stream.resize(stream.size() - z.avail_out);
  inflateEnd(&z);
  return points;
}

void indexedRight(const Bytes& blob, uint64_t spanSize, size_t feed, size_t room) {
  Bytes expected, stream;
  const auto points = byTheRule(blob, spanSize, expected);
  char name[] = "/tmp/peel-indexer-XXXXXX";
  const int fd = mkstemp(name);
  CHECK(fd >= 0);
  unlink(name);
  StreamIndexer indexer({StreamIndexer::Format::Gzip, spanSize, fd, 0});
  const auto index = run(indexer, blob, feed, room, stream);
  CHECK(index.failure == StreamIndexer::Failure::None);
  CHECK(stream == expected);
  CHECK_EQ(index.blobSize, blob.size());
  CHECK_EQ(index.streamSize, stream.size());
  CHECK(index.blobSha256 == peel::Sha256::of(blob.data(), blob.size()));
  CHECK(index.streamSha256 == peel::Sha256::of(stream.data(), stream.size()));
  CHECK_EQ(index.checkpoints.size(), points.size());
  CHECK_EQ(index.spanSha256.size(), points.size());
  for (size_t i = 0; i < points.size(); i++) {
    CHECK_EQ(index.checkpoints[i].in, points[i].in);
    CHECK_EQ(index.checkpoints[i].out, points[i].out);
    CHECK_EQ(index.checkpoints[i].bits, points[i].bits);
    Bytes window(peel::kWindow, 0);
    const size_t known = std::min<size_t>(points[i].out, peel::kWindow);
    std::copy_n(stream.data() + points[i].out - known, known, window.end() - static_cast<ptrdiff_t>(known));
    CHECK(std::memcmp(window.data(), index.windows[i].get(), peel::kWindow) == 0);
    const uint64_t from = points[i].in - (points[i].bits ? 1 : 0);
    const uint64_t to = i + 1 < points.size() ? points[i + 1].in : blob.size();
    CHECK(index.spanSha256[i] == peel::Sha256::of(blob.data() + from, to - from));
  }
  Bytes kept(stream.size() + 1);
  CHECK_EQ(static_cast<size_t>(pread(fd, kept.data(), kept.size(), 0)), stream.size());
  kept.pop_back();
  CHECK(kept == stream);
  close(fd);
}

StreamIndexer::Failure failureOf(const Bytes& blob) {
  StreamIndexer indexer({StreamIndexer::Format::Gzip, 10'000, -1, 4096});
  Bytes stream;
  return run(indexer, blob, 1000, 5000, stream).failure;
}

}  // namespace

TEST(checkpoints_by_the_rule) {
  const Bytes blob = member(material(2 << 20, 20), {.fields = true});
  for (uint64_t span : {1u, 30'000u, 200'000u, 100'000'000u}) indexedRight(blob, span, 1 << 16, 1 << 17);
  // Through buffers of a few bytes every boundary falls everywhere.
  const Bytes small = member(material(100'000, 21));
  indexedRight(small, 5'000, 17, 10'000);
  indexedRight(small, 5'000, 997, 77);
  indexedRight(member(material(20'000, 21)), 5'000, 1, 1);
  indexedRight(member(material(1 << 20, 22), {.level = 0}), 100'000, 10'000, 33'000);
}

TEST(checkpoints_across_members) {
  Bytes blob;
  for (int i = 0; i < 30; i++) {
    const Bytes one = member(material(static_cast<size_t>(i) * 5'000, 50 + i), {.fields = i % 2 == 1});
    blob.insert(blob.end(), one.begin(), one.end());
  }
  for (size_t feed : {233u, 4'096u, 1u << 24}) indexedRight(blob, 12'000, feed, 65'536);
  const Bytes part = material(3'000, 40);
  indexedRight(join({member(part), member({}), member(part, {.fields = true}), member(part)}), 2'000, 1, 50);
}

TEST(stored_layer) {
  for (size_t size : {0u, 1u, 999u, 1000u, 1001u, 123'456u}) {
    for (size_t feed : {1u, 7u, 1000u, 100'000u}) {
      const Bytes blob = material(size, 30);
      if (size / feed > 2'000) continue;
      StreamIndexer indexer({StreamIndexer::Format::Stored, 1000, -1, 7000});
      Bytes stream;
      const auto index = run(indexer, blob, feed, 4'000, stream);
      CHECK(index.failure == StreamIndexer::Failure::None);
      CHECK(stream == blob);
      CHECK(index.streamSha256 == peel::Sha256::of(blob.data(), blob.size()));
      const size_t spans = size == 0 ? 1 : (size + 999) / 1000;
      CHECK_EQ(index.checkpoints.size(), spans);
      CHECK_EQ(index.spanSha256.size(), spans);
      for (size_t i = 0; i < spans; i++) {
        CHECK_EQ(index.checkpoints[i].out, i * 1000);
        const size_t end = std::min(size, i * 1000 + 1000);
        CHECK(index.spanSha256[i] == peel::Sha256::of(blob.data() + i * 1000, end - i * 1000));
      }
      const size_t fine = size == 0 ? 1 : (size + 6999) / 7000;
      CHECK_EQ(index.fine->checkpoints.size(), fine);
      CHECK_EQ(index.fine->spanSha256.size(), fine);
      CHECK_EQ(index.fine->frames.size(), fine);
      for (size_t i = 0; i < fine; i++) {
        CHECK_EQ(index.fine->checkpoints[i].in, i * 7000);
        CHECK_EQ(index.fine->checkpoints[i].out, i * 7000);
        CHECK(index.fine->frames[i].bytes.empty());
        const size_t end = std::min(size, i * 7000 + 7000);
        CHECK(index.fine->spanSha256[i] == peel::Sha256::of(blob.data() + i * 7000, end - i * 7000));
      }
    }
  }
}

TEST(broken_blobs) {
  const Bytes blob = member(material(200'000, 31));
  CHECK(failureOf(blob) == StreamIndexer::Failure::None);
  for (size_t size : {size_t{0}, size_t{5}, size_t{10}, blob.size() / 2, blob.size() - 1}) {
    CHECK(failureOf(Bytes(blob.begin(), blob.begin() + static_cast<ptrdiff_t>(size))) == StreamIndexer::Failure::Truncated);
  }
  Bytes flipped = blob;
  flipped[flipped.size() - 6] ^= 1;
  CHECK(failureOf(flipped) == StreamIndexer::Failure::BadData);
  CHECK(failureOf(Bytes(1000, 'x')) == StreamIndexer::Failure::BadData);
  CHECK(failureOf(join({blob, Bytes(3000, 0)})) == StreamIndexer::Failure::None);
  CHECK(failureOf(join({blob, {'x'}})) == StreamIndexer::Failure::TrailingGarbage);
  CHECK(failureOf(join({blob, Bytes(2000, 0), {'x'}})) == StreamIndexer::Failure::TrailingGarbage);
  CHECK(failureOf(join({blob, {0x1f}})) == StreamIndexer::Failure::Truncated);
}

TEST(a_disk_that_fails) {
  const int fd = ::dup(0);
  ::close(fd);  // a descriptor that is certainly not open
  StreamIndexer indexer({StreamIndexer::Format::Gzip, 10'000, fd, 4096});
  Bytes stream;
  const auto index = run(indexer, member(material(200'000, 32)), 1000, 5000, stream);
  CHECK(index.failure == StreamIndexer::Failure::Disk);
  CHECK_EQ(index.err, EBADF);
}

TEST(closing_in_the_middle) {
  const Bytes blob = member(material(4 << 20, 33));
  for (int i = 0; i < 20; i++) {
    StreamIndexer indexer({StreamIndexer::Format::Gzip, 10'000, -1, 4096});
    indexer.push(blob.data(), blob.size());
    int answers = 0;
    auto chunk = std::make_shared<StreamIndexer::Chunk>(100'000);
    for (int j = 0; j < 10; j++) indexer.pull(chunk, [&](const auto&) { answers++; });
    usleep(static_cast<useconds_t>(i * 300));
    indexer.close();
    CHECK_EQ(answers, 10);
  }
}

TEST_MAIN
