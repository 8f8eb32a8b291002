#include "gzip/sha256.hpp"

#include <openssl/evp.h>

#include <new>

namespace peel {
namespace {

// These calls fail only without memory, as `new` would.
void must(int ok) {
  if (ok != 1) throw std::bad_alloc();
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  must(context_ != nullptr);
  must(EVP_DigestInit_ex(context_, EVP_sha256(), nullptr));
}

Sha256::~Sha256() { EVP_MD_CTX_free(context_); }

void Sha256::update(const uint8_t* bytes, size_t length) {
  if (length > 0) must(EVP_DigestUpdate(context_, bytes, length));
}

Sha256Digest Sha256::finish() {
  Sha256Digest digest;
  must(EVP_DigestFinal_ex(context_, digest.data(), nullptr));
  must(EVP_DigestInit_ex(context_, EVP_sha256(), nullptr));
  return digest;
}

Sha256Digest Sha256::of(const uint8_t* bytes, size_t length) {
  Sha256 hash;
  hash.update(bytes, length);
  return hash.finish();
}

}  // namespace peel
