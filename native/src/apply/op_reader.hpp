#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace peel {

// One change of a tree as src/native/tree-op-encoder.ts writes it. Texts are views of the encoded bytes, contain no NUL and
// are followed by one, so that `data()`, also of a path's last part, is what a system call takes.

enum class OpKind : uint8_t { Mkdir = 1, File = 2, Symlink = 3, Node = 4, Link = 5, Remove = 6, Describe = 7 };

struct OpXattr {
  std::string_view name;
  std::string_view value;  // any bytes
};

struct OpAttributes {
  uint32_t mode = 0;  // 07777
  uint32_t uid = 0, gid = 0;
  int64_t mtime = 0;
  uint32_t mtimeNs = 0;
  std::vector<OpXattr> xattrs;
};

struct OpExtent {
  uint64_t fileOffset, streamOffset, size;  // no sum overflows, and the file's size is not exceeded
};

struct Op {
  OpKind kind = OpKind::Mkdir;
  std::string_view path;   // clean: no empty part, `.` or `..`; "" only for Describe
  std::string_view other;  // Symlink: the target; Link: the clean path of what is there
  OpAttributes attributes;
  uint64_t size = 0;
  uint32_t stream = 0;
  std::vector<OpExtent> extents;
  uint32_t fileType = 0;  // Node: S_IFCHR, S_IFBLK or S_IFIFO
  uint32_t major = 0, minor = 0;
};

bool isCleanPath(std::string_view path);

class OpReader {
 public:
  OpReader(const uint8_t* bytes, size_t size) : at_(bytes), end_(bytes + size) {}

  bool atEnd() const { return at_ == end_; }
  // 0, or -EBADMSG for bytes that are no operation and -EINVAL for one with a value that none can have. After an error
  // there is no next one; op.path is then what was read of it.
  int next(Op& op);

 private:
  template <class T>
  bool number(T& out);
  bool bytes(std::string_view& out);
  bool text(std::string_view& out);
  bool attributes(OpAttributes& out);
  bool extents(Op& op);
  bool node(Op& op);
  bool body(Op& op);

  const uint8_t* at_;
  const uint8_t* const end_;
};

}  // namespace peel
