#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "cache/layer_cache.hpp"
#include "gzip_fixture.hpp"
#include "sys/fd.hpp"

// A root and a run directory for one layer, and a layer to put into it.
namespace fixture {

class CacheDir {
 public:
  CacheDir() {
    char name[] = "/tmp/peel-cache-XXXXXX";
    CHECK(mkdtemp(name));
    base_ = name;
    CHECK_EQ(::mkdir((base_ + "/run").c_str(), 0700), 0);
  }
  ~CacheDir() {
    std::error_code ec;
    if (owned_) std::filesystem::remove_all(base_, ec);
  }
  std::string layer() const { return base_ + "/layer"; }
  std::string live() const { return base_ + "/run/live"; }
  void reboot() { CHECK(::unlink(live().c_str()) == 0 || errno == ENOENT); }
  void disown() { owned_ = false; }  // in a child process

  peel::LayerCache::Options options(const Layer& of) const {
    peel::LayerCache::Options options;
    options.dir = layer();
    options.livePath = live();
    options.streamSize = of.stream.size();
    for (const Span& span : of.spans) options.spanStarts.push_back(span.start);
    options.spanStarts.push_back(options.streamSize);
    options.fingerprint.fill(42);
    return options;
  }

  std::shared_ptr<peel::LayerCache> open(const Layer& of) const {
    std::shared_ptr<peel::LayerCache> cache;
    CHECK_EQ(peel::LayerCache::open(options(of), cache), 0);
    return cache;
  }

 private:
  std::string base_;
  bool owned_ = true;
};

inline Layer testLayer(size_t size = 600'123, uint64_t spanSize = 40'000) {
  Bytes stream = material(size, 77);
  std::fill(stream.end() - 6000, stream.end(), 0);
  return index(member(stream), spanSize);
}

inline int put(peel::LayerCache& cache, const Layer& layer, uint32_t span) {
  peel::DecodeResult result;
  return cache.decode(span, inputOf(layer.spans[span], span + 1 == layer.spans.size()), result);
}

inline void putAll(peel::LayerCache& cache, const Layer& layer) {
  for (uint32_t i = 0; i < cache.spanCount(); i++) CHECK_EQ(put(cache, layer, i), 0);
}

inline bool rightAt(const peel::LayerCache& cache, const Layer& layer, uint64_t offset, size_t length) {
  Bytes bytes(length);
  if (pread(cache.dataFd(), bytes.data(), length, static_cast<off_t>(offset)) != static_cast<ssize_t>(length)) return false;
  return std::memcmp(bytes.data(), layer.stream.data() + offset, length) == 0;
}

inline void flip(const std::string& path, off_t at) {
  peel::Fd fd(::open(path.c_str(), O_RDWR));
  uint8_t byte;
  CHECK_EQ(pread(fd.get(), &byte, 1, at), 1);
  byte ^= 0x10;
  CHECK_EQ(pwrite(fd.get(), &byte, 1, at), 1);
}

// Another file of the same size in the same place.
inline void replace(const std::string& path) {
  struct stat info;
  CHECK_EQ(::stat(path.c_str(), &info), 0);
  peel::Fd fd(::open((path + ".new").c_str(), O_RDWR | O_CREAT, 0600));
  CHECK_EQ(ftruncate(fd.get(), info.st_size), 0);
  CHECK_EQ(::rename((path + ".new").c_str(), path.c_str()), 0);
}

}  // namespace fixture
