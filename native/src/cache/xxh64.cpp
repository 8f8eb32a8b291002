#include "cache/xxh64.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace peel {
namespace {

constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87u;
constexpr uint64_t kPrime2 = 0xC2B2AE3D27D4EB4Fu;
constexpr uint64_t kPrime3 = 0x165667B19E3779F9u;
constexpr uint64_t kPrime4 = 0x85EBCA77C2B2AE63u;
constexpr uint64_t kPrime5 = 0x27D4EB2F165667C5u;

template <class T>
T load(const uint8_t* bytes) {
  static_assert(std::endian::native == std::endian::little);
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

uint64_t round(uint64_t lane, uint64_t input) { return std::rotl(lane + input * kPrime2, 31) * kPrime1; }

uint64_t merge(uint64_t hash, uint64_t lane) { return (hash ^ round(0, lane)) * kPrime1 + kPrime4; }

}  // namespace

// The lanes are locals: bytes might alias members, and then each round would wait for the store of the one before.
void Xxh64::stripes(const uint8_t* bytes, size_t count) {
  uint64_t a = lanes_[0], b = lanes_[1], c = lanes_[2], d = lanes_[3];
  for (; count > 0; count--, bytes += kStripe) {
    a = round(a, load<uint64_t>(bytes));
    b = round(b, load<uint64_t>(bytes + 8));
    c = round(c, load<uint64_t>(bytes + 16));
    d = round(d, load<uint64_t>(bytes + 24));
  }
  lanes_[0] = a, lanes_[1] = b, lanes_[2] = c, lanes_[3] = d;
}

void Xxh64::update(const uint8_t* bytes, size_t length) {
  total_ += length;
  if (restLength_ > 0) {
    size_t take = std::min(length, sizeof rest_ - restLength_);
    if (take > 0) std::memcpy(rest_ + restLength_, bytes, take);
    restLength_ += take;
    bytes += take;
    length -= take;
    if (restLength_ < sizeof rest_) return;
    stripes(rest_, 1);
    restLength_ = 0;
  }
  stripes(bytes, length / kStripe);
  restLength_ = length % kStripe;
  if (restLength_ > 0) std::memcpy(rest_, bytes + (length - restLength_), restLength_);
}

uint64_t Xxh64::digest() const {
  uint64_t hash = kPrime5;
  if (total_ >= kStripe) {
    hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) + std::rotl(lanes_[3], 18);
    for (uint64_t lane : lanes_) hash = merge(hash, lane);
  }
  hash += total_;
  const uint8_t* at = rest_;
  size_t left = restLength_;
  for (; left >= 8; at += 8, left -= 8) hash = std::rotl(hash ^ round(0, load<uint64_t>(at)), 27) * kPrime1 + kPrime4;
  if (left >= 4) {
    hash = std::rotl(hash ^ (load<uint32_t>(at) * kPrime1), 23) * kPrime2 + kPrime3;
    at += 4;
    left -= 4;
  }
  for (; left > 0; at++, left--) hash = std::rotl(hash ^ (*at * kPrime5), 11) * kPrime1;
  hash = (hash ^ (hash >> 33)) * kPrime2;
  hash = (hash ^ (hash >> 29)) * kPrime3;
  return hash ^ (hash >> 32);
}

}  // namespace peel
