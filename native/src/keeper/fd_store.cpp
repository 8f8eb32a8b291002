#include "keeper/fd_store.hpp"

#include <errno.h>
#include <poll.h>

#include <algorithm>

namespace peel::keeper {
namespace {

bool isDead(int fd) {
  pollfd entry{fd, 0, 0};
  return ::poll(&entry, 1, 0) > 0 && (entry.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
}

}  // namespace

std::string FdStore::put(const std::string& name, Fd fd, bool isPolled) {
  if (isPolled && isDead(fd.get())) return "the file descriptor is of no use: not mounted yet, or no longer";
  const auto found = kept_.find(name);
  if (found != kept_.end()) {
    found->second = {std::move(fd), isPolled};
    return "";
  }
  if (kept_.size() >= limit_) return std::to_string(limit_) + " file descriptors are kept, and no more can be";
  kept_.emplace(name, KeptFd{std::move(fd), isPolled});
  return "";
}

void FdStore::remove(const std::string& name) { kept_.erase(name); }

void FdStore::setPolled(const std::string& name) {
  const auto found = kept_.find(name);
  if (found != kept_.end()) found->second.isPolled = true;
}

int FdStore::find(const std::string& name) const {
  const auto found = kept_.find(name);
  return found == kept_.end() ? -1 : found->second.fd.get();
}

std::vector<std::string> FdStore::dropDead() {
  std::vector<std::string> dropped;
  for (auto entry = kept_.begin(); entry != kept_.end();) {
    if (!entry->second.isPolled || !isDead(entry->second.fd.get())) {
      ++entry;
      continue;
    }
    dropped.push_back(entry->first);
    entry = kept_.erase(entry);
  }
  return dropped;
}

bool FdStore::hasPolled() const {
  return std::any_of(kept_.begin(), kept_.end(), [](const auto& entry) { return entry.second.isPolled; });
}

}  // namespace peel::keeper
