#pragma once
#include "gzip_fixture.hpp"

// Blobs scanned by either inflater in pieces of any size, and blobs of unusual blocks.
namespace fixture {

using peel::CheckpointScan;
using peel::InflateBackend;
using peel::ScanStatus;

struct Scanned {
  Bytes stream;
  bool whole = false;
  std::vector<peel::Checkpoint> points;
  std::vector<Bytes> windows;
  std::vector<peel::FineCheckpoint> fine;
};

// `feed` and `room`: pieces of up to so many bytes.
inline Scanned scan(InflateBackend backend, const Bytes& blob, uint64_t spanSize, size_t feed, size_t room,
                    uint64_t seed, uint64_t fineSpanSize = 0) {
  Scanned scanned;
  CheckpointScan scan(spanSize, backend, fineSpanSize);
  check::Random random{seed};
  Bytes memory(room);  // whose end is the end of every piece of output
  ScanStatus status = ScanStatus::NeedInput;
  uint64_t consumed = 0;
  for (size_t at = 0; at < blob.size() && status == ScanStatus::NeedInput;) {
    // Memory of its own, so that a sanitizer sees what is read beyond.
    const size_t length = std::min<size_t>(blob.size() - at, 1 + random.below(feed));
    const Bytes piece(blob.begin() + static_cast<ptrdiff_t>(at), blob.begin() + static_cast<ptrdiff_t>(at + length));
    scan.feed(piece.data(), piece.size());
    do {
      const size_t capacity = 1 + random.below(room);
      uint8_t* out = memory.data() + (room - capacity);
      size_t produced = 0;
      const size_t known = scan.checkpoints().size();
      status = scan.run(out, capacity, produced);
      CHECK(produced <= capacity);
      scanned.stream.insert(scanned.stream.end(), out, out + produced);
      CHECK_EQ(scan.produced(), scanned.stream.size());
      // What hashes the spans relies on this.
      for (size_t i = known; i < scan.checkpoints().size(); i++) {
        CHECK(scan.checkpoints()[i].in >= consumed && scan.checkpoints()[i].in <= scan.consumed());
      }
      for (peel::FineCheckpoint& fine : scan.takeFine()) {
        CHECK(fine.at.in >= consumed && fine.at.in <= scan.consumed());
        scanned.fine.push_back(std::move(fine));
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

inline Scanned plainly(const Bytes& blob, uint64_t spanSize, uint64_t fineSpanSize = 0) {
  return scan(InflateBackend::Zlib, blob, spanSize, 1 << 16, 1 << 16, 0, fineSpanSize);
}

inline void samePlace(const peel::Checkpoint& a, const peel::Checkpoint& b) {
  CHECK_EQ(a.in, b.in);
  CHECK_EQ(a.out, b.out);
  CHECK_EQ(a.bits, b.bits);
}

inline void sameFine(const Scanned& a, const Scanned& b) {
  CHECK_EQ(a.fine.size(), b.fine.size());
  for (size_t i = 0; i < a.fine.size(); i++) {
    samePlace(a.fine[i].at, b.fine[i].at);
    CHECK_EQ(a.fine[i].window == nullptr, b.fine[i].window == nullptr);
    if (a.fine[i].window) CHECK(std::memcmp(a.fine[i].window.get(), b.fine[i].window.get(), peel::kWindow) == 0);
  }
}

// Of the table that follows SOCI's rule.
inline void same(const Scanned& a, const Scanned& b) {
  CHECK_EQ(a.whole, b.whole);
  CHECK(a.stream == b.stream);
  CHECK_EQ(a.points.size(), b.points.size());
  for (size_t i = 0; i < a.points.size(); i++) {
    samePlace(a.points[i], b.points[i]);
    CHECK(a.windows[i] == b.windows[i]);
  }
}

// Runs of `every` bytes, each ended by one of the flushes: blocks of all kinds and sizes, and empty ones.
inline Bytes flushed(const Bytes& plain, int level, size_t every, std::initializer_list<int> flushes, uint64_t seed) {
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
inline Bytes wrapped(const Bytes& deflated, const Bytes& plain) {
  Bytes blob = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};
  blob.insert(blob.end(), deflated.begin(), deflated.end());
  const uint32_t crc = peel::gzipCrc(0, plain.data(), plain.size());
  for (uint32_t word : {crc, static_cast<uint32_t>(plain.size())}) {
    for (int i = 0; i < 4; i++) blob.push_back(static_cast<uint8_t>(word >> (8 * i)));
  }
  return blob;
}

}  // namespace fixture
