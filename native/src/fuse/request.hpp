// One message from the kernel, with every access to its arguments checked against its length.
#pragma once
#include <cstring>
#include <string_view>

#include "fuse/abi.hpp"

namespace peel::fuse {

class Request {
 public:
  /** False: shorter than a header, or its `len` is not the number of bytes read. */
  static bool parse(const uint8_t* bytes, size_t size, Request& out) {
    if (size < sizeof(InHeader)) return false;
    std::memcpy(&out.header_, bytes, sizeof(InHeader));
    if (out.header_.len != size) return false;
    out.args_ = bytes + sizeof(InHeader);
    out.argSize_ = size - sizeof(InHeader);
    return true;
  }

  const InHeader& header() const { return header_; }
  Opcode opcode() const { return static_cast<Opcode>(header_.opcode); }
  uint64_t unique() const { return header_.unique; }
  uint64_t node() const { return header_.nodeid; }

  /** Copies the fixed part; `T` stays zeroed where an older kernel sends less than `sizeof(T)` but at least `least`. */
  template <class T>
  bool args(T& out, size_t least = sizeof(T)) const {
    if (argSize_ < least) return false;
    out = T{};
    std::memcpy(&out, args_, argSize_ < sizeof(T) ? argSize_ : sizeof(T));
    return true;
  }

  /** The NUL-terminated name that starts `skip` bytes into the arguments; false when there is none. */
  bool name(size_t skip, std::string_view& out) const {
    if (argSize_ <= skip) return false;
    const char* start = reinterpret_cast<const char*>(args_) + skip;
    const void* end = std::memchr(start, 0, argSize_ - skip);
    if (end == nullptr || end == start) return false;
    out = std::string_view(start, static_cast<size_t>(static_cast<const char*>(end) - start));
    return true;
  }

 private:
  InHeader header_{};
  const uint8_t* args_ = nullptr;
  size_t argSize_ = 0;
};

}  // namespace peel::fuse
