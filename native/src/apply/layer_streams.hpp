#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "apply/op_reader.hpp"
#include "sys/fd.hpp"

namespace peel {

// Layer streams that are still being written to files, and copies of their parts as soon as they are there.
class LayerStreams {
 public:
  // 0 or -errno: EEXIST for a number that is taken, EBADF for a file that cannot be read. Duplicates the fd.
  int add(uint32_t stream, int fd);
  // All bytes before `offset` can be read. ENOENT when there is no such stream. Never goes back.
  int advance(uint32_t stream, uint64_t offset);
  // Whoever waits for data gets ECANCELED.
  void stop();
  // After stop(), when nobody copies any more: closes the files, which may be deleted and large.
  void release();

  // By one thread: 0 or -errno; ENODATA when the file ends before what advance() said, ENOENT when there is no such stream.
  int copy(uint32_t stream, const OpExtent& extent, int to);

  uint64_t copied() const { return copied_.load(std::memory_order_relaxed); }

 private:
  struct Stream {
    explicit Stream(Fd file) : fd(std::move(file)) {}
    const Fd fd;
    std::atomic<uint64_t> available{0};
    bool shares = true;  // copy_file_range(2) may work
  };

  Stream* find(uint32_t stream);
  bool waitFor(Stream& stream, uint64_t offset);
  int copySmall(Stream& stream, const OpExtent& extent, int to);
  int copyLarge(Stream& stream, const OpExtent& extent, int to);
  int64_t copyPiece(Stream& stream, uint64_t from, int to, uint64_t at, uint64_t size);
  int fill(Stream& stream, uint64_t offset, uint64_t needed);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<uint32_t, std::unique_ptr<Stream>> streams_;
  bool stopped_ = false;
  std::atomic<uint64_t> copied_{0};

  // What was read ahead, of the copying thread.
  std::unique_ptr<uint8_t[]> buffer_;
  const Stream* buffered_ = nullptr;
  uint64_t bufferStart_ = 0;
  uint64_t bufferSize_ = 0;
};

}  // namespace peel
