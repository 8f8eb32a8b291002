#include "cache/span_waits.hpp"

#include <algorithm>

namespace peel {

void SpanWaits::park(const ParkedRead& read, std::vector<uint32_t> spans) {
  for (uint32_t span : spans) bySpan_[span].push_back(read.waiter);
  size_t left = spans.size();
  parked_.insert_or_assign(read.waiter, Parked{read, std::move(spans), left});
}

std::optional<ParkedRead> SpanWaits::cancel(SpanWaiter* waiter) {
  auto node = parked_.extract(waiter);
  if (node.empty()) return std::nullopt;
  for (uint32_t span : node.mapped().spans) {
    auto at = bySpan_.find(span);
    if (at == bySpan_.end()) continue;
    std::erase(at->second, waiter);
    if (at->second.empty()) bySpan_.erase(at);
  }
  return node.mapped().read;
}

std::vector<ParkedRead> SpanWaits::done(uint32_t span) {
  auto node = bySpan_.extract(span);
  std::vector<ParkedRead> ready;
  if (node.empty()) return ready;
  for (SpanWaiter* waiter : node.mapped()) {
    auto at = parked_.find(waiter);
    if (at == parked_.end() || --at->second.left > 0) continue;
    ready.push_back(at->second.read);
    parked_.erase(at);
  }
  return ready;
}

std::vector<ParkedRead> SpanWaits::failed(uint32_t span) {
  auto at = bySpan_.find(span);
  if (at == bySpan_.end()) return {};
  const std::vector<SpanWaiter*> waiters = at->second;
  std::vector<ParkedRead> reads;
  for (SpanWaiter* waiter : waiters) {
    if (auto read = cancel(waiter)) reads.push_back(*read);
  }
  return reads;
}

std::vector<ParkedRead> SpanWaits::takeAll() {
  std::vector<ParkedRead> all;
  all.reserve(parked_.size());
  for (auto& entry : parked_) all.push_back(entry.second.read);
  parked_.clear();
  bySpan_.clear();
  return all;
}

}  // namespace peel
