#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "gzip/checkpoint_scan.hpp"
#include "gzip/span_hasher.hpp"
#include "gzip/spare_blobs.hpp"
#include "gzip/sparse_windows.hpp"

namespace peel {

// One pass over a layer blob: the stream comes out, and with it everything an index needs. Inflating is on one thread,
// hashing and writing to disk on a second one: those are the two heavy halves.
class StreamIndexer {
 public:
  enum class Format : uint8_t { Gzip, Stored };
  struct Options {
    Format format = Format::Gzip;
    uint64_t spanSize = 0;  // > 0
    int dataFd = -1;        // the stream is pwritten here when not -1; stays the caller's
    uint64_t fineSpanSize = 0;  // 0: without the finer table
  };

  enum class Failure : uint8_t { None, BadData, TrailingGarbage, Truncated, Disk, Closed };

  // Memory for stream bytes. Shared, because the hashing thread may be behind whoever reads it.
  struct Chunk {
    explicit Chunk(size_t capacity) : bytes(new uint8_t[capacity]), size(capacity) {}
    std::unique_ptr<uint8_t[]> bytes;
    size_t size;
    bool busy = false;  // not hashed yet; guarded by the indexer
  };

  struct Pulled {
    size_t length = 0;
    bool more = false;  // false: what was pushed is used up
    Failure failure = Failure::None;
    int err = 0;  // Disk: errno
  };

  // The finer table.
  struct Fine {
    std::vector<Checkpoint> checkpoints;
    std::vector<WindowFrame> frames;  // one for each
    std::vector<Sha256Digest> spanSha256;
  };

  struct Index {
    uint64_t blobSize = 0;
    uint64_t streamSize = 0;
    Sha256Digest blobSha256{};
    Sha256Digest streamSha256{};
    std::vector<Checkpoint> checkpoints;
    std::vector<std::shared_ptr<const uint8_t[]>> windows;  // kWindow bytes for each; none for stored
    std::vector<Sha256Digest> spanSha256;
    std::shared_ptr<const Fine> fine;  // null when not asked for
    Failure failure = Failure::None;
    int err = 0;
  };

  explicit StreamIndexer(const Options& options);
  // Stops both threads; callbacks of what was asked for are called with Closed.
  ~StreamIndexer();
  void close();

  // The next blob bytes. Call pull() until it says that there is no more before pushing again.
  void push(const uint8_t* bytes, size_t length);
  // Fills the chunk, once it was hashed, with the next stream bytes; `done` is called on a thread of the indexer.
  void pull(std::shared_ptr<Chunk> chunk, std::function<void(const Pulled&)> done);
  // After the last push was used up.
  void finish(std::function<void(const Index&)> done);
  // Stream bytes that dataFd has, without a hole. Any thread.
  uint64_t written() const { return written_.load(std::memory_order_acquire); }

 private:
  struct Cut {
    size_t at;  // in the blob slice
    uint8_t bits;
  };
  struct HashJob {
    std::shared_ptr<const std::vector<uint8_t>> blob;
    size_t from = 0, to = 0;  // slice of the blob bytes
    std::vector<Cut> cuts, fineCuts;
    std::shared_ptr<Chunk> chunk;
    size_t length = 0;
    uint64_t offset = 0;  // of the chunk in the stream
  };

  void inflateLoop();
  void hashLoop();
  void hash(const HashJob& job);
  Pulled fill(const std::shared_ptr<Chunk>& chunk);
  Pulled fillStored(Chunk& chunk, HashJob& job);
  Pulled fillGzip(Chunk& chunk, HashJob& job);
  void takeFine(HashJob& job);
  void cutStored(std::vector<Checkpoint>& points, uint64_t spanSize, std::vector<Cut>& cuts);
  Index seal();
  std::shared_ptr<const Fine> sealFine();

  const Options options_;
  CheckpointScan scan_;
  std::shared_ptr<SpareBlobs> spares_ = std::make_shared<SpareBlobs>();
  std::shared_ptr<const std::vector<uint8_t>> blob_;
  uint64_t blobBase_ = 0;  // blob offset of *blob_
  size_t used_ = 0;        // of *blob_
  uint64_t streamOffset_ = 0;
  std::vector<Checkpoint> stored_;
  std::vector<Checkpoint> fine_;
  SparseWindows windows_;
  Failure failure_ = Failure::None;

  // Of the hashing thread until it is idle.
  Sha256 blobHash_;
  Sha256 streamHash_;
  SpanHasher spanHash_;
  SpanHasher fineHash_;
  int diskError_ = 0;
  std::atomic<uint64_t> written_{0};

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> asks_;  // for the inflating thread; called with closed_ set when too late
  std::deque<HashJob> hashJobs_;
  bool hashing_ = false;
  bool closed_ = false;
  std::thread inflater_;
  std::thread hasher_;
};

}  // namespace peel
