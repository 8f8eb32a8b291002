#include "apply/op_reader.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace peel {
namespace {

// Some bytes of every element: a count that the rest of the message cannot hold reserves no memory.
constexpr size_t kLeastXattr = 2 * (sizeof(uint32_t) + 1);

bool possible(const Op& op) {
  constexpr uint64_t kMaxSize = INT64_MAX;
  if (op.kind == OpKind::Describe ? !op.path.empty() && !isCleanPath(op.path) : !isCleanPath(op.path)) return false;
  if (op.kind == OpKind::Link && !isCleanPath(op.other)) return false;
  if (op.attributes.mode > 07777 || op.attributes.mtimeNs > 999'999'999) return false;
  // To chown() these mean "as it is".
  if (op.attributes.uid == UINT32_MAX || op.attributes.gid == UINT32_MAX) return false;
  if (op.size > kMaxSize) return false;
  for (const OpExtent& extent : op.extents) {
    if (extent.fileOffset > op.size || extent.size > op.size - extent.fileOffset) return false;
    if (extent.streamOffset > kMaxSize || extent.size > kMaxSize - extent.streamOffset) return false;
  }
  return true;
}

}  // namespace

bool isCleanPath(std::string_view path) {
  for (size_t at = 0;;) {
    const size_t slash = path.find('/', at);
    const std::string_view part = path.substr(at, slash == std::string_view::npos ? slash : slash - at);
    if (part.empty() || part == "." || part == "..") return false;
    if (slash == std::string_view::npos) return true;
    at = slash + 1;
  }
}

template <class T>
bool OpReader::number(T& out) {
  if (static_cast<size_t>(end_ - at_) < sizeof out) return false;
  std::memcpy(&out, at_, sizeof out);
  at_ += sizeof out;
  return true;
}

bool OpReader::bytes(std::string_view& out) {
  uint32_t size;
  if (!number(size) || static_cast<size_t>(end_ - at_) <= size || at_[size] != 0) return false;
  out = {reinterpret_cast<const char*>(at_), size};
  at_ += size + size_t{1};
  return true;
}

bool OpReader::text(std::string_view& out) { return bytes(out) && out.find('\0') == std::string_view::npos; }

bool OpReader::attributes(OpAttributes& out) {
  uint32_t count;
  if (!number(out.mode) || !number(out.uid) || !number(out.gid) || !number(out.mtime) || !number(out.mtimeNs) ||
      !number(count) || count > static_cast<size_t>(end_ - at_) / kLeastXattr) {
    return false;
  }
  out.xattrs.resize(count);
  for (OpXattr& xattr : out.xattrs) {
    if (!text(xattr.name) || !bytes(xattr.value)) return false;
  }
  return true;
}

bool OpReader::extents(Op& op) {
  uint32_t count;
  if (!number(op.size) || !number(op.stream) || !number(count)) return false;
  if (count > static_cast<size_t>(end_ - at_) / sizeof(OpExtent)) return false;
  op.extents.resize(count);
  for (OpExtent& extent : op.extents) {
    if (!number(extent.fileOffset) || !number(extent.streamOffset) || !number(extent.size)) return false;
  }
  return true;
}

bool OpReader::node(Op& op) {
  uint8_t kind;
  if (!number(kind) || kind < 1 || kind > 3 || !number(op.major) || !number(op.minor)) return false;
  op.fileType = kind == 1 ? S_IFCHR : kind == 2 ? S_IFBLK : S_IFIFO;
  return attributes(op.attributes);
}

bool OpReader::body(Op& op) {
  switch (op.kind) {
    case OpKind::Mkdir:
    case OpKind::Remove: return true;
    case OpKind::File: return attributes(op.attributes) && extents(op);
    case OpKind::Symlink: return text(op.other) && attributes(op.attributes);
    case OpKind::Node: return node(op);
    case OpKind::Link: return text(op.other);
    case OpKind::Describe: return attributes(op.attributes);
  }
  return false;
}

int OpReader::next(Op& op) {
  op.path = op.other = {};
  op.attributes.mode = op.attributes.uid = op.attributes.gid = op.attributes.mtimeNs = 0;
  op.attributes.mtime = 0;
  op.attributes.xattrs.clear();
  op.extents.clear();
  op.size = 0;
  uint8_t kind;
  if (!number(kind) || kind < 1 || kind > static_cast<uint8_t>(OpKind::Describe)) return -EBADMSG;
  op.kind = static_cast<OpKind>(kind);
  if (!text(op.path) || !body(op)) return -EBADMSG;
  return possible(op) ? 0 : -EINVAL;
}

}  // namespace peel
