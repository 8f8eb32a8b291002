#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "gzip/inflater.hpp"

namespace peel {

// Inflates gzip members one after another, headers and trailers checked, and stops at block boundaries. Two
// implementations, as of Inflater, which find the same boundaries. ISA-L alone takes a block whose code for distances
// is incomplete and not used.
class MemberInflater {
 public:
  virtual ~MemberInflater() = default;

  // A member begins at the next byte that is fed. Not for the first one.
  virtual void begin() = 0;
  // The next input; not copied. What was not used of the input before is forgotten.
  virtual void feed(const uint8_t* bytes, size_t length) = 0;
  // Boundaries where at most `out` bytes of all members came before need not be reported, other than a member's first.
  virtual void quietUntil(uint64_t out) = 0;

  enum class Event : uint8_t {
    OutputFull,
    NeedInput,  // left() is 0
    Boundary,   // a block that is not a member's last ended here, or the first one begins
    MemberEnd,  // behind the trailer
    Bad,        // final
  };
  // Produces up to `capacity` (> 0) bytes, and with every event possibly some.
  virtual Event run(uint8_t* out, size_t capacity, size_t& produced) = 0;

  // Input bytes that were not used. At a boundary the byte before may still hold bits() of the next block, in its high
  // bits.
  virtual size_t left() const = 0;
  virtual uint8_t bits() const = 0;
};

std::unique_ptr<MemberInflater> makeMemberInflater(InflateBackend backend);
std::unique_ptr<MemberInflater> makeZlibMemberInflater();
std::unique_ptr<MemberInflater> makeIsalMemberInflater();  // null when not built in

}  // namespace peel
