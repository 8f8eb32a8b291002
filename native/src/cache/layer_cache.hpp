#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "cache/data_pins.hpp"
#include "cache/held_spans.hpp"
#include "cache/layer_lock.hpp"
#include "cache/live_bits.hpp"
#include "cache/read_log.hpp"
#include "cache/span_claims.hpp"
#include "cache/span_waits.hpp"
#include "gzip/span_decoder.hpp"
#include "gzip/stream_tail.hpp"
#include "sys/fd.hpp"

namespace peel {

// The block cache of one layer: a sparse file with the layer stream and the set of spans that are in it.
//
// Any number of LayerCache objects, in any number of processes, may be open on one directory. They share the live bits
// (memory) and the data file. A bit is set after its bytes are written. It may be cleared at any time, by an eviction in any
// process, so bytes count only when the generation is still the one of before the look at the bits:
//
//   generation() -> ensure() or covered() -> pread -> unchanged(generation), else from the start
//
// Where the disk refuses a span that a read waits for, the read gets it from memory: pread is copy() then, which knows both.
// Such a span is not present, for nobody but the reads of this process, and not for long.
//
// Whoever cannot ask afterwards (the kernel, a reader of the file) holds a pin. Nothing of a complete layer is evicted.
//
// Every method may be called from any thread. Nothing here waits for the network or for JavaScript.
class LayerCache : public std::enable_shared_from_this<LayerCache> {
 public:
  struct Options {
    std::string dir;
    std::string livePath;
    uint64_t streamSize = 0;
    std::vector<uint64_t> spanStarts;  // count + 1, ascending, last == streamSize; only the last span may be empty
    std::array<uint8_t, 32> fingerprint{};
    bool readOnly = false;
  };

  using MissHandler = std::function<void(const uint32_t* spans, size_t n)>;

  // 0 or -errno. Takes the shared flock on <dir>/lock and maps the live bits; -EINVAL for a table that is no span table,
  // -EPROTONOSUPPORT for files of a newer release. A data file that was cut short loses what is not in it any more.
  static int open(const Options& options, std::shared_ptr<LayerCache>& out);
  // Makes a whole layer stream, written elsewhere on the same filesystem, the layer's data: checksums, every bit set and
  // synced, and with `complete` the mark that it was checked. The file at `stream` has exactly streamSize bytes and is
  // renamed. 0 or -errno: -EAGAIN when somebody has the layer open, -EINVAL for a file of another size.
  static int adopt(const Options& options, const std::string& stream, bool complete);
  // What the files are like, without a lock, and changing nothing.
  struct Inspection {
    int data = 0;  // 0, -ENOENT
    uint64_t dataSize = 0;
    uint64_t expectedSize = 0;
    int present = 0;  // as readPresent() says
    uint64_t sumsSize = 0;
    bool liveIsForeign = false;  // somebody may be using the data file by another index
  };
  static int inspect(const Options& options, Inspection& out);
  ~LayerCache();
  LayerCache(const LayerCache&) = delete;
  LayerCache& operator=(const LayerCache&) = delete;

  uint64_t streamSize() const { return options_.streamSize; }
  uint32_t spanCount() const { return static_cast<uint32_t>(options_.spanStarts.size() - 1); }
  uint64_t spanStart(uint32_t span) const { return options_.spanStarts[span]; }
  uint64_t spanSize(uint32_t span) const { return options_.spanStarts[span + 1] - options_.spanStarts[span]; }
  int dataFd() const { return data_.get(); }

  bool present(uint32_t span) const;
  bool isAwaited(uint32_t span);  // reads are parked on it
  uint32_t presentCount() const;
  uint64_t presentBytes() const;
  bool complete() const;  // marked complete: the whole stream was checked against the diffID
  bool mending() const;   // it was complete until a span turned out wrong: nothing of it is evicted
  uint64_t trailingZeros() const;  // bytes of the stream past streamSize, known once an open-ended last span is decoded
  uint32_t spanAt(uint64_t offset) const;  // offset < streamSize
  bool covered(uint64_t offset, uint64_t length) const;  // what ensure() would answer 0 to, without asking for anything

  // 0: every byte of [off, off+len) is present and may be pread from dataFd(); bytes past streamSize read as zero up to
  //    the next 512 boundary.
  // 1: parked, w will be resumed. <0: -errno (-EIO after shutdown).
  // Missing spans nobody asked for yet are reported once through the miss handler. What nobody has used since the machine
  // started is compared with its checksum first: a disk may have lost what it had promised to keep.
  // Without memory for its own records the process ends, as nobody would bring what was noted by halves.
  int ensure(uint64_t off, uint64_t len, SpanWaiter* w) noexcept;
  uint64_t generation() const { return live_.generation(); }
  bool unchanged(uint64_t generation) const { return live_.unchanged(generation); }
  // The bytes of a range that ensure() answered 0 to, up to the padding's end. 0 or -errno.
  int copy(uint64_t off, uint64_t len, uint8_t* to) const;
  // The data file did not give the bytes of a range: they are fetched again. Of spans that failed before the disk is not
  // asked any more. False when there is nothing to fetch instead.
  bool distrust(uint64_t off, uint64_t len);

  // Bytes of the stream, all before streamSize. 0 or -errno: -EAGAIN when not all of them are present.
  int read(uint64_t off, uint64_t len, uint8_t* to);
  // The same for the cache's own work: nobody has read the spans.
  int peek(uint64_t off, uint64_t len, uint8_t* to);
  // true: w was parked and is removed, resume() will not be called. Its wait is logged with EINTR.
  bool cancel(SpanWaiter* w);

  // First touches of spans and waits of reads, for as long as somebody holds it.
  const std::shared_ptr<ReadLog>& log() const { return log_; }

  // Called from any thread without locks held. Spans already asked for and not settled are reported to a new handler.
  void setMissHandler(MissHandler handler);

  // CPU work on the calling (pool) thread: sha256, inflate, pwrite, checksum, bit, resume waiters.
  // 0, or -errno with result.failure telling a bad span (-EBADMSG) from a failing disk. A failed decode leaves the
  // waiters parked: the caller refetches, or calls fail(). A failing disk fails it only when nobody waits for the span:
  // those who do get it from memory, and result.refused says why. -ENOMEM where there was not enough memory.
  // `tail` is told what comes out.
  int decode(uint32_t span, const DecodeInput& input, DecodeResult& result, StreamTail* tail = nullptr);
  // The stream before the span, up to what a window holds, from spans that are present and right. 0, -ENODATA, or the
  // error of a failing disk. Reads them whole.
  int tailBefore(uint32_t span, StreamTail& tail);
  // Resumes waiters when the span is present, for example because another process brought it. True when present.
  bool settle(uint32_t span) noexcept;
  // Resumes waiters with err (> 0) and forgets that the span was asked for.
  void fail(uint32_t span, int err) noexcept;
  // Reads the span back and compares with the checksum made at decode: 0 it is right, -EILSEQ it was wrong and its bit
  // is dropped, -ENODATA not present.
  int verify(uint32_t span);

  // A data file that was cut short gets its length back, and what was behind its end is not present any more. To be called
  // when a read found less than there should be. 0 or -errno.
  int mendLength();

  // fdatasync(data), then the durable bitmap: write new, fsync, rename. 0 or -errno. What a failing disk did not take is not
  // present any more.
  int sync();
  // sync() with the complete flag; -ENODATA while a span is missing.
  int markComplete();
  // While it is held nothing is evicted, in any process. 0 or -errno; waits for an eviction that runs.
  int pin(std::shared_ptr<const void>& out);
  // The data file once more, as a pin of its own: for as long as anybody, the kernel too, has this one open.
  int openPinned(Fd& out) const;

  struct Evicted {
    uint32_t spans = 0;  // that were present
    uint64_t bytes = 0;  // given back to the file system, blocks that are shared with a neighbour excluded
  };
  // Takes spans out, also while others read, in any order. 0 or -errno; nothing is evicted, and 0, when the layer is complete,
  // being mended, pinned, or in use by a process that knows no eviction. -EOPNOTSUPP where files cannot have holes made.
  int evict(std::vector<uint32_t> spans, Evicted& out);
  // For each span the second (LiveBits::coarseNow) in which somebody read it last, or brought it; 1 when that is not known;
  // 0: it is not present.
  std::vector<uint32_t> lastUsed() const;

  // sha256 of the whole stream, trailing zeros included; -ENODATA while a span is missing.
  int digest(std::array<uint8_t, 32>& out);

  // No more reads: ensure() answers -EIO, parked waiters get EIO, the miss handler is dropped. Files and the shared
  // lock stay until the last owner lets go, so that a read in flight never meets an evictor.
  void shutdown();

 private:
  explicit LayerCache(const Options& options)
      : options_(options), held_([this] { live_.nextGeneration(); }), log_(std::make_shared<ReadLog>(static_cast<uint32_t>(options.spanStarts.size() - 1))) {}
  static bool isSpanTable(const Options& options);
  static int identify(int dataFd, const Options& options, BitsIdentity& identity, uint64_t& size);
  int openFiles();
  int openData();
  // Rounded up, because a block device reader asks for whole 512-byte blocks and a short answer would be an error to it.
  static uint64_t paddedSize(const Options& options) { return (options.streamSize + 511) / 512 * 512; }
  uint64_t paddedSize() const { return paddedSize(options_); }
  bool rangeOf(uint64_t off, uint64_t len, uint32_t& first, uint32_t& last) const;
  bool allPresent(uint32_t first, uint32_t last) const;
  bool isHere(uint32_t span) const { return live_.test(span) || held_.has(span); }
  bool allHere(uint32_t first, uint32_t last) const;
  bool isReadable(uint32_t span);
  int decodeAlone(uint32_t span, const DecodeInput& input, DecodeResult& result, StreamTail* tail);
  int decodeToDisk(uint32_t span, const DecodeInput& input, DecodeResult& result, StreamTail* tail);
  int decodeToMemory(uint32_t span, const DecodeInput& input, DecodeResult& result, StreamTail* tail);
  void use(uint32_t first, uint32_t last);
  int dropBehind(uint64_t size);
  int decodeToFile(uint32_t span, const DecodeInput& input, DecodeResult& result, StreamTail* tail, uint64_t& sum);
  int sumOfFile(uint32_t span, uint64_t& sum) const;
  void checkUnused(uint32_t first, uint32_t last);
  void recordStall(const ParkedRead& read, int err);
  void resumeAll(const std::vector<ParkedRead>& reads, int err);
  void wake(uint32_t span) noexcept;
  enum class BitsMark : uint8_t { AsIs, Complete };
  int writePresent(BitsMark mark);
  int writeBits(BitsMark mark);
  void dropUnsynced();
  int digestData(std::array<uint8_t, 32>& out);
  int evictAlone(const std::vector<uint32_t>& spans, Evicted& out);
  int evictClaimed(const std::vector<uint32_t>& spans, const std::vector<uint32_t>& claimed, Evicted& out);
  // The blocks of the data file that nothing but spans first..last has bytes in: from, to.
  std::pair<uint64_t, uint64_t> wholeBlocks(uint32_t first, uint32_t last) const;

  Options options_;
  BitsIdentity identity_;
  uint64_t dataSize_ = 0;
  LayerLock lock_;
  Fd data_;
  Fd sums_;
  LiveBits live_;
  HeldSpans held_;
  SpanClaims claims_;
  DataPins pins_;
  const std::shared_ptr<ReadLog> log_;

  std::mutex mutex_;  // guards the four below, and closing
  std::unordered_map<uint32_t, uint32_t> readFailures_;  // of spans whose bytes the disk did not give, how often
  SpanWaits waits_;
  std::unordered_set<uint32_t> asked_;
  std::shared_ptr<MissHandler> missHandler_;
  std::atomic<bool> shut_{false};

  std::atomic<uint64_t> syncFailures_{0};
  std::mutex syncMutex_;
  std::mutex lengthMutex_;
};

}  // namespace peel
