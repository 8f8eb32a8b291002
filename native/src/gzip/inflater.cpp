#include "gzip/inflater.hpp"

#include <atomic>

namespace peel {
namespace {

std::atomic<InflateBackend> chosen{hasIsal() ? InflateBackend::Isal : InflateBackend::Zlib};

}  // namespace

bool hasIsal() {
#ifdef PEEL_ISAL
  return true;
#else
  return false;
#endif
}

bool setInflateBackend(InflateBackend backend) {
  if (backend == InflateBackend::Isal && !hasIsal()) return false;
  chosen = backend;
  return true;
}

InflateBackend inflateBackend() { return chosen; }

std::unique_ptr<Inflater> makeInflater(InflateBackend backend) {
  return backend == InflateBackend::Isal ? makeIsalInflater() : makeZlibInflater();
}

}  // namespace peel
