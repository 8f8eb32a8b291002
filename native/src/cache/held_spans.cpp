#include "cache/held_spans.hpp"

#include <mutex>

#include "sys/clock.hpp"

namespace peel {

struct HeldSpans::Store {
  std::mutex mutex;
  std::list<Held> oldestFirst;
  std::atomic<size_t> bytes{0};
};

// Never destroyed: threads may decode while the process exits.
HeldSpans::Store& HeldSpans::store() {
  static auto* const all = new Store;
  return *all;
}

HeldSpans::Bytes HeldSpans::get(uint32_t span) const {
  if (empty()) return nullptr;
  std::lock_guard lock(store().mutex);
  const auto found = places_.find(span);
  return found == places_.end() ? nullptr : found->second->bytes;
}

bool HeldSpans::put(uint32_t span, Bytes bytes) {
  Store& all = store();
  const size_t size = bytes->size();
  if (size > kMostBytes) return false;
  std::lock_guard lock(all.mutex);
  if (const auto before = places_.find(span); before != places_.end()) forget(before->second);
  while (!all.oldestFirst.empty() && all.bytes + size > kMostBytes) forget(all.oldestFirst.begin());
  all.oldestFirst.push_back({this, span, std::move(bytes), monotonicNs()});
  places_[span] = std::prev(all.oldestFirst.end());
  all.bytes += size;
  count_.fetch_add(1, std::memory_order_acq_rel);
  return true;
}

void HeldSpans::forget(Place place) {
  HeldSpans& owner = *place->owner;
  owner.onForget_();
  store().bytes -= place->bytes->size();
  owner.places_.erase(place->span);
  owner.count_.fetch_sub(1, std::memory_order_acq_rel);
  store().oldestFirst.erase(place);
}

void HeldSpans::drop(uint32_t span) {
  if (empty()) return;
  std::lock_guard lock(store().mutex);
  if (const auto found = places_.find(span); found != places_.end()) forget(found->second);
}

void HeldSpans::clear() {
  if (empty()) return;
  std::lock_guard lock(store().mutex);
  while (!places_.empty()) forget(places_.begin()->second);
}

void HeldSpans::expire() {
  Store& all = store();
  if (all.bytes.load(std::memory_order_relaxed) == 0) return;
  std::lock_guard lock(all.mutex);
  const int64_t oldest = monotonicNs() - kKeptNs;
  while (!all.oldestFirst.empty() && all.oldestFirst.front().since < oldest) forget(all.oldestFirst.begin());
}

size_t HeldSpans::totalBytes() { return store().bytes.load(std::memory_order_relaxed); }

}  // namespace peel
