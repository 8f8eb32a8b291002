#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace peel {

// Memory for pieces of a blob, used again: new pages for every piece cost more than copying it.
class SpareBlobs {
 public:
  using Blob = std::vector<uint8_t>;

  // The bytes, in memory that comes back to `spares` when nobody holds it any more.
  static std::shared_ptr<const Blob> copy(const std::shared_ptr<SpareBlobs>& spares, const uint8_t* bytes, size_t length) {
    Blob blob = spares->take();
    blob.assign(bytes, bytes + length);
    auto giveBack = [spares](Blob* used) {
      spares->keep(std::move(*used));
      delete used;
    };
    return std::shared_ptr<Blob>(new Blob(std::move(blob)), giveBack);
  }

 private:
  static constexpr size_t kMost = 4;

  Blob take() {
    std::lock_guard lock(mutex_);
    if (kept_.empty()) return {};
    Blob blob = std::move(kept_.back());
    kept_.pop_back();
    return blob;
  }

  void keep(Blob blob) {
    std::lock_guard lock(mutex_);
    if (kept_.size() < kMost) kept_.push_back(std::move(blob));
  }

  std::mutex mutex_;
  std::vector<Blob> kept_;
};

}  // namespace peel
