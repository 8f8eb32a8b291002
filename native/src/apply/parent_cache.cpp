#include "apply/parent_cache.hpp"

#include <fcntl.h>

#include <cerrno>

#include "apply/open_beneath.hpp"

namespace peel {
namespace {

constexpr size_t kMostOpen = 64;

bool isBeneath(std::string_view path, std::string_view top) {
  return path.size() > top.size() && path.starts_with(top) && path[top.size()] == '/';
}

}  // namespace

int ParentCache::parentOf(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return root_;
  const std::string_view parent = path.substr(0, slash);
  // Neighbours come one after the other.
  if (!entries_.empty() && entries_.front().path == parent) return entries_.front().fd.get();
  if (const auto found = byPath_.find(parent); found != byPath_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
    return entries_.front().fd.get();
  }
  int fd = openDirectoryBeneath(root_, parent, O_PATH);
  if (fd == -EMFILE || fd == -ENFILE) {
    dropDownTo(1);
    fd = openDirectoryBeneath(root_, parent, O_PATH);
  }
  if (fd < 0) return fd;
  entries_.push_front({std::string(parent), Fd(fd)});
  byPath_.emplace(entries_.front().path, entries_.begin());
  dropDownTo(kMostOpen);
  return fd;
}

void ParentCache::forget(std::string_view path) {
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    if (entry->path == path || isBeneath(entry->path, path)) {
      byPath_.erase(entry->path);
      entry = entries_.erase(entry);
    } else {
      ++entry;
    }
  }
}

void ParentCache::dropDownTo(size_t count) {
  while (entries_.size() > count) {
    byPath_.erase(entries_.back().path);
    entries_.pop_back();
  }
}

}  // namespace peel
