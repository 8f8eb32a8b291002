// INIT: what both sides can do.
#include <errno.h>

#include <algorithm>

#include "fuse/reply.hpp"
#include "fuse/session.hpp"

namespace peel::fuse {
namespace {

// DO_READDIRPLUS without READDIRPLUS_AUTO: every listing brings the attributes, no storm of LOOKUPs follows.
// ALLOW_IDMAP needs default_permissions, which all our mounts have; HAS_RESEND is for a server that takes over.
constexpr uint64_t kWanted = init_flag::kAsyncRead | init_flag::kParallelDirops | init_flag::kDoReaddirplus |
                             init_flag::kCacheSymlinks | init_flag::kNoOpendirSupport |
                             init_flag::kMaxPages | init_flag::kAbortError | init_flag::kExplicitInvalData |
                             init_flag::kHasResend | init_flag::kAllowIdmap;

constexpr uint16_t kMaxPages = 256;  // 1 MiB per READ

}  // namespace

void Session::init(const Request& request) {
  InitIn in;
  if (!request.args(in, kOldInitInSize)) return fail(request, EPROTO);
  InitOut out{};
  out.major = kMajor;
  out.minor = std::min(in.minor, kMinor);
  if (in.major > kMajor) {
    // The kernel asks again, speaking ours.
    replyInit(fd(), request.unique(), out);
    return;
  }
  if (in.major < kMajor || in.minor < kOldestMinor) return fail(request, EPROTO);

  uint64_t offered = in.flags;
  if (offered & init_flag::kInitExt) offered |= uint64_t{in.flags2} << 32;
  const uint64_t agreed = offered & (kWanted | options_.filesystem->initFlags());
  uint64_t answered = agreed;
  if (agreed >> 32) answered |= init_flag::kInitExt;

  out.maxReadahead = in.maxReadahead;
  out.flags = static_cast<uint32_t>(answered);
  out.flags2 = static_cast<uint32_t>(answered >> 32);
  // Every page cache miss is a background request. With a small limit, reads that wait for one unreachable layer hold up
  // the reads of all the others on the connection.
  out.maxBackground = 65535;
  out.congestionThreshold = 65535;
  // Nothing is written; the smallest value lets every thread read requests into a small buffer.
  out.maxWrite = 4096;
  out.timeGran = 1;
  out.maxPages = kMaxPages;
  out.maxStackDepth = agreed & init_flag::kPassthrough ? 1 : 0;
  // Before the answer: with it the next request may arrive on another thread.
  agreed_ = agreed;
  options_.filesystem->onInit(agreed);
  replyInit(fd(), request.unique(), out);
}

}  // namespace peel::fuse
