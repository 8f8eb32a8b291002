#include "gzip/sparse_windows.hpp"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "gzip/window_reach.hpp"
#include "sys/pool.hpp"

namespace peel {

struct SparseWindows::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<WindowFrame> frames;
  size_t waiting = 0;  // in the pool, running ones not counted
  size_t running = 0;
  bool closed = false;

  void run(const Job& job) {
    WindowFrame frame;
    if (keepReached(job.window.get(), job.input.data(), job.input.size(), job.bits)) frame = windowFrame(job.window.get());
    std::lock_guard lock(mutex);
    frames[job.index] = std::move(frame);
  }
};

SparseWindows::SparseWindows() : state_(std::make_shared<State>()) {}

SparseWindows::~SparseWindows() { close(); }

void SparseWindows::close() {
  std::unique_lock lock(state_->mutex);
  state_->closed = true;
  state_->changed.notify_all();
  state_->changed.wait(lock, [&] { return state_->running == 0; });
}

void SparseWindows::feed(const uint8_t* bytes, size_t length) {
  if (length == 0) return;
  for (Job& job : open_) {
    job.input.insert(job.input.end(), bytes, bytes + std::min(length, kReachInput - job.input.size()));
  }
  last_ = bytes[length - 1];
}

void SparseWindows::begin(FineCheckpoint checkpoint) {
  Job job;
  {
    std::lock_guard lock(state_->mutex);
    job.index = state_->frames.size();
    state_->frames.emplace_back();
  }
  if (!checkpoint.window) return;
  job.out = checkpoint.at.out;
  job.bits = checkpoint.at.bits;
  job.window = std::move(checkpoint.window);
  if (job.bits != 0) job.input.push_back(last_);
  open_.push_back(std::move(job));
}

void SparseWindows::passed(uint64_t out) {
  while (!open_.empty() && out - open_.front().out >= kWindow) {
    start(std::move(open_.front()));
    open_.pop_front();
  }
}

void SparseWindows::start(Job job) {
  {
    std::unique_lock lock(state_->mutex);
    if (state_->closed) return;
    if (state_->waiting + state_->running >= 2 * Pool::cpu().threads()) {
      lock.unlock();
      state_->run(job);
      return;
    }
    state_->waiting++;
  }
  // std::function wants something that could be copied.
  Pool::cpu().submit([state = state_, job = std::make_shared<Job>(std::move(job))] {
    {
      std::lock_guard lock(state->mutex);
      state->waiting--;
      if (state->closed) return;
      state->running++;
    }
    state->run(*job);
    std::lock_guard lock(state->mutex);
    state->running--;
    state->changed.notify_all();
  });
}

std::vector<WindowFrame> SparseWindows::finish() {
  for (Job& job : open_) start(std::move(job));
  open_.clear();
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [&] { return state_->closed || state_->waiting + state_->running == 0; });
  if (state_->closed) return {};
  return std::move(state_->frames);
}

}  // namespace peel
