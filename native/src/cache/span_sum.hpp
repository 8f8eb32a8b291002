#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "cache/xxh64.hpp"
#include "sys/file_io.hpp"

namespace peel {

constexpr size_t kReadBuffer = size_t{256} << 10;

// As it stands in the file `sums`, where 0 means that nothing is known.
inline uint64_t sumOf(const Xxh64& hash) {
  const uint64_t sum = hash.digest();
  return sum == 0 ? 1 : sum;
}

// each(bytes, length) for file bytes [from, to) in order. 0 or -errno.
template <class Each>
int readRange(int fd, uint64_t from, uint64_t to, Each each) {
  std::vector<uint8_t> buffer(kReadBuffer);
  while (from < to) {
    const size_t n = static_cast<size_t>(std::min<uint64_t>(buffer.size(), to - from));
    if (int err = readFully(fd, buffer.data(), n, from)) return err;
    each(buffer.data(), n);
    from += n;
  }
  return 0;
}

}  // namespace peel
