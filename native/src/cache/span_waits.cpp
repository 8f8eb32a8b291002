#include "cache/span_waits.hpp"

#include <algorithm>

namespace peel {

void SpanWaits::park(SpanWaiter* waiter, std::vector<uint32_t> spans) {
  for (uint32_t span : spans) bySpan_[span].push_back(waiter);
  size_t left = spans.size();
  parked_.insert_or_assign(waiter, Parked{std::move(spans), left});
}

bool SpanWaits::cancel(SpanWaiter* waiter) {
  auto node = parked_.extract(waiter);
  if (node.empty()) return false;
  for (uint32_t span : node.mapped().spans) {
    auto at = bySpan_.find(span);
    if (at == bySpan_.end()) continue;
    std::erase(at->second, waiter);
    if (at->second.empty()) bySpan_.erase(at);
  }
  return true;
}

std::vector<SpanWaiter*> SpanWaits::done(uint32_t span) {
  auto node = bySpan_.extract(span);
  std::vector<SpanWaiter*> ready;
  if (node.empty()) return ready;
  for (SpanWaiter* waiter : node.mapped()) {
    auto at = parked_.find(waiter);
    if (at == parked_.end() || --at->second.left > 0) continue;
    parked_.erase(at);
    ready.push_back(waiter);
  }
  return ready;
}

std::vector<SpanWaiter*> SpanWaits::failed(uint32_t span) {
  auto at = bySpan_.find(span);
  if (at == bySpan_.end()) return {};
  std::vector<SpanWaiter*> waiters = at->second;
  for (SpanWaiter* waiter : waiters) cancel(waiter);
  return waiters;
}

std::vector<SpanWaiter*> SpanWaits::takeAll() {
  std::vector<SpanWaiter*> all;
  all.reserve(parked_.size());
  for (auto& entry : parked_) all.push_back(entry.first);
  parked_.clear();
  bySpan_.clear();
  return all;
}

}  // namespace peel
