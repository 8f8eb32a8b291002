#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "gzip/checkpoint_scan.hpp"
#include "gzip/window_frame.hpp"

namespace peel {

// Makes the windows of checkpoints while the scan goes on, on Pool::cpu(). Never more than a few are under way: when
// the pool does not keep up, the caller makes the next one itself. One thread, except for close().
class SparseWindows {
 public:
  SparseWindows();
  ~SparseWindows();
  SparseWindows(const SparseWindows&) = delete;
  SparseWindows& operator=(const SparseWindows&) = delete;

  // Blob bytes, from the first on.
  void feed(const uint8_t* bytes, size_t length);
  // A checkpoint behind everything fed so far.
  void begin(FineCheckpoint checkpoint);
  // So many stream bytes have come out of what was fed.
  void passed(uint64_t out);
  // Everything was fed. Waits; the frames in the order of the checkpoints, or after close() none.
  std::vector<WindowFrame> finish();
  // Waits for what runs, and drops what does not run yet. Any thread.
  void close();

 private:
  struct Job {
    size_t index = 0;
    uint64_t out = 0;
    uint8_t bits = 0;
    std::unique_ptr<uint8_t[]> window;
    std::vector<uint8_t> input;
  };
  struct State;
  void start(Job job);

  const std::shared_ptr<State> state_;
  std::deque<Job> open_;  // whose first kWindow bytes of stream are not all there yet
  uint8_t last_ = 0;      // byte that was fed
};

}  // namespace peel
