#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "check.hpp"

// A fuzz target is one file here with these two functions. libFuzzer calls the first (npm run fuzz); replay.cpp calls it with the seeds
// and with what was kept of earlier runs (npm test).
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size);

namespace fuzz {

using Bytes = std::vector<uint8_t>;

/** Good inputs, from which a fuzzer starts. */
std::vector<Bytes> seeds();

/** Numbers from the front of an input; zeros when it is used up. */
class Reader {
 public:
  Reader(const uint8_t* bytes, size_t size) : at_(bytes), left_(size) {}
  template <class T>
  T number() {
    T value = 0;
    const size_t have = left_ < sizeof value ? left_ : sizeof value;
    if (have != 0) std::memcpy(&value, at_, have);
    take(have);
    return value;
  }
  /** An allocation of its own, so that one byte too far is seen. */
  Bytes bytes(size_t most) {
    const size_t have = left_ < most ? left_ : most;
    Bytes out(at_, at_ + have);
    out.shrink_to_fit();
    take(have);
    return out;
  }
  size_t left() const { return left_; }

 private:
  void take(size_t count) {
    at_ += count;
    left_ -= count;
  }
  const uint8_t* at_;
  size_t left_;
};

/** The same numbers to the end of an input. */
class Writer {
 public:
  template <class T>
  Writer& number(T value) {
    const auto* from = reinterpret_cast<const uint8_t*>(&value);
    out.insert(out.end(), from, from + sizeof value);
    return *this;
  }
  Writer& bytes(const Bytes& more) {
    out.insert(out.end(), more.begin(), more.end());
    return *this;
  }
  Bytes out;
};

}  // namespace fuzz
