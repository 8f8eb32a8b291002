#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace peel {

// Raw DEFLATE over bytes in memory, in pieces of the caller's choosing. Two implementations: the zlib that Node
// exports, and ISA-L where it was there at build time.
class Inflater {
 public:
  virtual ~Inflater() = default;

  // Starts at input[0]. With bits != 0 only the high `bits` bits of input[0] belong to the stream (size > 0 then).
  // `window` is what back references may reach, oldest first, at most 32768 bytes; copied. `input` is not.
  virtual void start(const uint8_t* input, size_t size, uint8_t bits, const uint8_t* window, size_t windowSize) = 0;

  enum class Status : uint8_t {
    More,     // produced something; call again
    End,      // the final block ended; consumed() tells where
    Starved,  // the input ended first
    Bad,      // not DEFLATE
  };
  // Produces up to `capacity` (> 0) bytes; with End, Starved and Bad possibly some too.
  virtual Status run(uint8_t* out, size_t capacity, size_t& produced) = 0;

  // After End: input bytes used, the last one perhaps in part.
  virtual size_t consumed() const = 0;
};

enum class InflateBackend : uint8_t { Zlib, Isal };

bool hasIsal();
// ISA-L where it is built in. Changing it is for tests, which run over both. False: not built in.
bool setInflateBackend(InflateBackend backend);
InflateBackend inflateBackend();

std::unique_ptr<Inflater> makeInflater(InflateBackend backend);
std::unique_ptr<Inflater> makeZlibInflater();
std::unique_ptr<Inflater> makeIsalInflater();  // null when not built in

// The CRC-32 of gzip trailers, by the quickest means at hand.
uint32_t gzipCrc(uint32_t crc, const uint8_t* bytes, size_t length);

}  // namespace peel
