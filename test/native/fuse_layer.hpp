#pragma once
#include <stdlib.h>

#include <filesystem>
#include <mutex>

#include "cache/layer_cache.hpp"
#include "check.hpp"

// A layer of random bytes, whose spans come when the test says so.
namespace fuse_fixture {

using peel::DecodeInput;
using peel::DecodeResult;
using peel::LayerCache;

inline constexpr uint64_t kSpan = 8192;
inline constexpr uint64_t kStream = 10 * kSpan + 100;

class Layer {
 public:
  Layer() {
    char path[] = "/tmp/peel-reads-XXXXXX";
    CHECK(::mkdtemp(path) != nullptr);
    dir_ = path;
    check::Random random{99};
    for (uint64_t i = 0; i < kStream; ++i) bytes.push_back(static_cast<uint8_t>(random.next()));
    LayerCache::Options options;
    options.dir = dir_ + "/blob";
    options.livePath = dir_ + "/live";
    options.streamSize = kStream;
    for (uint64_t at = 0; at < kStream; at += kSpan) options.spanStarts.push_back(at);
    options.spanStarts.push_back(kStream);
    CHECK_EQ(LayerCache::open(options, cache), 0);
    cache->setMissHandler([this](const uint32_t* spans, size_t count) {
      std::lock_guard lock(mutex_);
      for (size_t i = 0; i < count; ++i) asked_.push_back(spans[i]);
    });
  }
  ~Layer() {
    cache->shutdown();
    cache.reset();
    std::filesystem::remove_all(dir_);
  }

  void bring(uint32_t span) {
    DecodeInput input{};
    input.data = bytes.data() + cache->spanStart(span);
    input.size = cache->spanSize(span);
    DecodeResult result;
    CHECK_EQ(cache->decode(span, input, result), 0);
  }

  std::vector<uint32_t> asked() {
    std::lock_guard lock(mutex_);
    return asked_;
  }

  std::shared_ptr<LayerCache> cache;
  std::vector<uint8_t> bytes;

 private:
  std::string dir_;
  std::mutex mutex_;
  std::vector<uint32_t> asked_;
};

}  // namespace fuse_fixture
