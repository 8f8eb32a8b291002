// Extended attributes: entries behind the inode, and shared ones in a table of their own.
#include <errno.h>

#include "tree/image.hpp"

namespace peel::erofs {
namespace {

/** Empty for an index that the format does not have. The ACL names are complete: their entry has no name of its own. */
std::string_view prefixOf(uint8_t index) {
  switch (index) {
    case 1: return "user.";
    case 2: return "system.posix_acl_access";
    case 3: return "system.posix_acl_default";
    case 4: return "trusted.";
    case 6: return "security.";
    default: return {};
  }
}

}  // namespace

int Image::xattrEntry(uint64_t at, uint64_t end, const XattrVisitor& each, uint64_t& next, bool& more) const {
  XattrEntry entry;
  if (end - at < sizeof entry || !load(at, entry)) return -EUCLEAN;
  const uint64_t body = uint64_t{entry.nameLen} + entry.valueSize;
  if (end - at - sizeof entry < body) return -EUCLEAN;
  const uint8_t* name = bytes(at + sizeof entry, body);
  if (name == nullptr) return -EUCLEAN;
  next = at + ((sizeof entry + body + 3) & ~uint64_t{3});
  const std::string_view prefix = prefixOf(entry.nameIndex);
  if (prefix.empty()) return -EUCLEAN;
  const char* text = reinterpret_cast<const char*>(name);
  const std::string_view rest(text, entry.nameLen);
  if (rest.find('\0') != std::string_view::npos) return -EUCLEAN;
  more = each(prefix, rest, std::string_view(text + entry.nameLen, entry.valueSize));
  return 0;
}

int Image::xattrs(const Inode& inode, const XattrVisitor& each) const {
  if (inode.xattrSize == 0) return 0;
  XattrHeader header;
  if (!load(inode.xattrAt, header)) return -EUCLEAN;
  uint64_t at = inode.xattrAt + sizeof header;
  const uint64_t end = inode.xattrAt + inode.xattrSize;
  if (end - at < uint64_t{header.sharedCount} * sizeof(uint32_t)) return -EUCLEAN;
  const uint64_t sharedBase = uint64_t{super_.xattrBlkaddr} << super_.blkszbits;
  bool more = true;
  uint64_t next = 0;
  for (uint32_t i = 0; i < header.sharedCount && more; ++i, at += sizeof(uint32_t)) {
    uint32_t id;
    if (!load(at, id)) return -EUCLEAN;
    const uint64_t sharedAt = sharedBase + uint64_t{id} * sizeof(uint32_t);
    if (sharedAt >= size_) return -EUCLEAN;
    if (int err = xattrEntry(sharedAt, size_, each, next, more)) return err;
  }
  while (more && at < end) {
    if (int err = xattrEntry(at, end, each, next, more)) return err;
    at = next;
  }
  return 0;
}

int Image::getxattr(const Inode& inode, std::string_view name, std::string_view& value) const {
  bool found = false;
  const int err = xattrs(inode, [&](std::string_view prefix, std::string_view rest, std::string_view bytes) {
    found = name.size() == prefix.size() + rest.size() && name.substr(0, prefix.size()) == prefix &&
            name.substr(prefix.size()) == rest;
    if (found) value = bytes;
    return !found;
  });
  if (err) return err;
  return found ? 0 : -ENODATA;
}

}  // namespace peel::erofs
