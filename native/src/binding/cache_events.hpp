#pragma once
#include <napi.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "binding/loop.hpp"
#include "cache/layer_cache.hpp"

namespace peel {

// What a cache tells JavaScript: spans that are missed, first touches, waits of reads. All of it comes from other threads in
// bursts: one posted event carries all that came meanwhile, touches before the misses of the same reads.
class CacheEvents : public std::enable_shared_from_this<CacheEvents> {
 public:
  // JavaScript thread only, like the three below. Its end is posted there too, because it holds JavaScript references.
  static std::shared_ptr<CacheEvents> of(Napi::Env env, const std::shared_ptr<LayerCache>& cache);

  // (spans: Uint32Array)
  void onMiss(LayerCache& cache, Napi::Function handler);
  // (spans: Uint32Array, at: Float64Array), ns of CLOCK_MONOTONIC
  void onTouch(Napi::Function handler);
  // (stalls: Float64Array, dropped: number): offset, length, start and end in ns, errno of each
  void onStall(Napi::Function handler);

 private:
  CacheEvents(std::shared_ptr<JsLoop> loop, std::shared_ptr<ReadLog> log) : loop_(std::move(loop)), log_(std::move(log)) {}
  void addMisses(uint64_t turn, const uint32_t* spans, size_t count);
  void post();
  void deliver(Napi::Env env);
  void deliverTouches(Napi::Env env);
  void deliverStalls(Napi::Env env);

  const std::shared_ptr<JsLoop> loop_;
  const std::shared_ptr<ReadLog> log_;
  Napi::FunctionReference miss_, touch_, stall_;
  std::mutex mutex_;
  bool posted_ = false;
  uint64_t turn_ = 0;  // of the miss handler: one that was replaced is told nothing any more
  std::vector<uint32_t> misses_;
};

}  // namespace peel
