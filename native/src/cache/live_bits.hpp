#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace peel {

// What a bitmap belongs to. Bits of anything else are worth nothing.
struct BitsIdentity {
  uint32_t spanCount = 0;
  uint64_t streamSize = 0;
  std::array<uint8_t, 32> fingerprint{};
  // The data file, so that bits do not outlive it. No device number: those change from boot to boot.
  uint64_t dataInode = 0;
  uint64_t dataBirthNs = 0;
  bool sameIndex(const BitsIdentity& other) const {
    return spanCount == other.spanCount && streamSize == other.streamSize && fingerprint == other.fingerprint;
  }
  bool operator==(const BitsIdentity&) const = default;
};

// What the durable and the live form both say.
struct BitsContent {
  bool complete = false;
  uint64_t trailingZeros = 0;
  std::vector<uint64_t> words;
};

// The live bitmap: a small file in the run directory, mapped shared by every process that has the layer open.
// It is worth as much as the page cache is: it survives a process, not a boot.
class LiveBits {
 public:
  LiveBits() = default;
  ~LiveBits();
  LiveBits(const LiveBits&) = delete;
  LiveBits& operator=(const LiveBits&) = delete;

  // Maps `path`, made from `initial()` when there is none of this identity and this boot. 0 or -errno.
  // The caller holds the layer's shared lock, so nobody removes the file meanwhile.
  int open(const std::string& path, const BitsIdentity& identity, const std::function<BitsContent()>& initial);

  // Whether the file at `path` is of this boot and of another index: somebody may be using the same data file.
  static bool ofAnotherIndex(const std::string& path, const BitsIdentity& identity);

  bool test(uint32_t span) const;
  void set(uint32_t span);    // releases what the caller wrote before
  void clear(uint32_t span);  // also takes back `complete`
  uint32_t count() const;
  bool all() const;
  bool complete() const;
  void setComplete();
  uint64_t trailingZeros() const;
  void setTrailingZeros(uint64_t bytes);
  BitsContent snapshot() const;

 private:
  struct Header;
  int fill(int fd, const BitsIdentity& identity, const BitsContent& content);
  static bool readHeader(int fd, Header& header);
  int map(int fd);

  Header* header_ = nullptr;
  uint64_t* words_ = nullptr;
  size_t length_ = 0;
  uint32_t spanCount_ = 0;
};

}  // namespace peel
