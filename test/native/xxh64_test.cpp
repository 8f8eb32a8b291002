#include "cache/xxh64.hpp"

#include "gzip_fixture.hpp"

namespace {

uint64_t hashOf(const std::string& text) {
  peel::Xxh64 hash;
  hash.update(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  return hash.digest();
}

}  // namespace

TEST(known_values) {
  CHECK_EQ(hashOf(""), 0xEF46DB3751D8E999u);
  CHECK_EQ(hashOf("a"), 0xD24EC4F1A98C6E5Bu);
  CHECK_EQ(hashOf("abc"), 0x44BC2CF5AD770999u);
  CHECK_EQ(hashOf("Nobody inspects the spammish repetition"), 0xFBCEA83C8A378BF1u);
}

TEST(in_pieces) {
  const fixture::Bytes bytes = fixture::material(5'000, 5);
  peel::Xxh64 whole;
  whole.update(bytes.data(), bytes.size());
  for (size_t piece : {1u, 3u, 31u, 32u, 33u, 1000u}) {
    peel::Xxh64 hash;
    for (size_t at = 0; at < bytes.size(); at += piece) hash.update(bytes.data() + at, std::min(piece, bytes.size() - at));
    CHECK_EQ(hash.digest(), whole.digest());
  }
}

TEST_MAIN
