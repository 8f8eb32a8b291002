// Part of a buffer that nobody may touch, as far as the address sanitizer is there to see it.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define PEEL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PEEL_ASAN 1
#endif
#endif
#ifdef PEEL_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace peel {

/** From `used` to the end of a buffer of `size` bytes, while it lives. */
class PoisonedRest {
 public:
#ifdef PEEL_ASAN
  PoisonedRest(const uint8_t* buffer, size_t used, size_t size) : from_(buffer + used), size_(size - used) {
    __asan_poison_memory_region(from_, size_);
  }
  ~PoisonedRest() { __asan_unpoison_memory_region(from_, size_); }

 private:
  const uint8_t* from_;
  size_t size_;
#else
  PoisonedRest(const uint8_t*, size_t, size_t) {}
  ~PoisonedRest() {}
#endif
 public:
  PoisonedRest(const PoisonedRest&) = delete;
  PoisonedRest& operator=(const PoisonedRest&) = delete;
};

}  // namespace peel
