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

// The live bitmap and when each span was last used: a small file in the run directory, mapped shared by every process that has the layer open.
// It is worth as much as the page cache is: it survives a process, not a boot.
class LiveBits {
 public:
  LiveBits() = default;
  ~LiveBits();
  LiveBits(const LiveBits&) = delete;
  LiveBits& operator=(const LiveBits&) = delete;

  // Maps `path`, made from `initial()` when there is none of this identity and this boot. 0 or -errno: -EPROTONOSUPPORT when a
  // newer release made it.
  // The caller holds the layer's shared lock, so nobody removes the file meanwhile. A file of version 1 is shared with the
  // older processes that may use it: nothing can be evicted then, because they would not notice.
  int open(const std::string& path, const BitsIdentity& identity, const std::function<BitsContent()>& initial);

  // Whether the file at `path` is of this boot and of another index: somebody may be using the same data file.
  static bool ofAnotherIndex(const std::string& path, const BitsIdentity& identity);
  // Whether the file at `path` is of this boot and of just this.
  static bool isOf(const std::string& path, const BitsIdentity& identity);
  // Whether the file at `path` is of a version whose readers know nothing of eviction.
  static bool ofOlderVersion(const std::string& path);
  // Whether everybody who opens the layer shares this file, and everybody who has it open looks at the generation.
  bool evictable(const std::string& path) const;

  bool test(uint32_t span) const;
  void set(uint32_t span);    // releases what the caller wrote before
  void clear(uint32_t span);  // also takes back `complete`, and says `mending` instead
  uint32_t count() const;
  bool all() const;
  bool complete() const;
  void setComplete();
  // It was complete until a span turned out wrong. Others may read the file itself, so nothing else of it goes.
  bool mending() const;
  uint64_t trailingZeros() const;
  void setTrailingZeros(uint64_t bytes);
  BitsContent snapshot() const;

  // Grows after bits were cleared and before their bytes go. Bytes that were read between a look at the bits and unchanged()
  // are right if the generation was taken before both.
  uint64_t generation() const;
  bool unchanged(uint64_t generation) const;
  void nextGeneration();

  // Seconds of coarseNow(), at least 1; 0 where nobody used the span since the file was made.
  static uint32_t coarseNow();
  uint32_t lastUsed(uint32_t span) const;
  void use(uint32_t first, uint32_t last, uint32_t now);

  // Whether spans that are not present take no space: known once somebody has evicted to the end.
  bool trimmed() const;
  // Somebody evicts, or was killed while he did.
  bool evicting() const;
  void beginEviction();
  void endEviction();

 private:
  struct Header;
  bool hasFlag(uint32_t flag) const;
  size_t lengthOf(uint32_t version) const;
  int fill(int fd, const BitsIdentity& identity, const BitsContent& content);
  static bool readHeader(int fd, Header& header);
  static bool isOfThisBoot(const Header& header);
  int map(int fd, uint32_t version);

  Header* header_ = nullptr;
  uint64_t* words_ = nullptr;
  uint32_t* stamps_ = nullptr;
  size_t length_ = 0;
  bool ownStamps_ = false;  // a mapping of our own
  uint64_t inode_ = 0;
  uint64_t device_ = 0;
  uint32_t spanCount_ = 0;
};

}  // namespace peel
