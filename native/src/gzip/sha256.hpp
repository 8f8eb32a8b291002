#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

struct evp_md_ctx_st;

namespace peel {

using Sha256Digest = std::array<uint8_t, 32>;

// OpenSSL's sha256, which uses the processor's own instructions where it has them.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(const uint8_t* bytes, size_t length);
  Sha256Digest finish();  // and starts anew

  static Sha256Digest of(const uint8_t* bytes, size_t length);

 private:
  evp_md_ctx_st* context_;
};

}  // namespace peel
