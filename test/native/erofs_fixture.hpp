#pragma once
#include <sys/stat.h>

#include <cstring>
#include <string>
#include <vector>

#include "tree/erofs_format.hpp"

// A small EROFS image written by hand, with every structure that the reader knows: blocks of 512, two devices, a
// directory of several blocks, inline and shared xattrs, chunk indexes with a hole, inline and plain data.
namespace erofs_fixture {

using namespace peel::erofs;

inline constexpr uint64_t kRoot = 64;      // image byte 2048
inline constexpr uint64_t kFile = 80;      // chunked, 3 chunks of 512: device 1 block 2, hole, device 2 block 0
inline constexpr uint64_t kLink = 96;      // symlink, inline
inline constexpr uint64_t kTagged = 112;   // inline data, one inline and one shared xattr
inline constexpr uint64_t kMany = 128;     // plain directory of kManyNames names
inline constexpr uint64_t kDevice = 144;
inline constexpr uint64_t kCompact = 160;  // compact inode, plain data
inline constexpr uint32_t kManyBlock = 16;
inline constexpr uint32_t kXattrBlock = 12;
inline constexpr uint32_t kPlainBlock = 13;
inline constexpr size_t kManyNames = 100;

template <class T>
void put(std::vector<uint8_t>& image, uint64_t at, const T& value) {
  if (image.size() < at + sizeof value) image.resize(at + sizeof value);
  std::memcpy(image.data() + at, &value, sizeof value);
}

inline void putText(std::vector<uint8_t>& image, uint64_t at, const std::string& text) {
  if (image.size() < at + text.size()) image.resize(at + text.size());
  std::memcpy(image.data() + at, text.data(), text.size());
}

struct Name {
  std::string name;
  uint64_t nid;
  uint8_t type;
};

/** One directory block: the dirents, then the names. */
inline std::string dirBlock(const std::vector<Name>& names) {
  std::vector<uint8_t> block;
  auto nameAt = static_cast<uint16_t>(names.size() * sizeof(Dirent));
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    put(block, i * sizeof(Dirent), Dirent{names[i].nid, static_cast<uint16_t>(nameAt + text.size()), names[i].type, 0});
    text += names[i].name;
  }
  return std::string(block.begin(), block.end()) + text;
}

inline InodeExtended inode(Layout layout, uint16_t mode, uint64_t size, uint32_t u) {
  InodeExtended out{};
  out.format = static_cast<uint16_t>(1 | layout << 1);
  out.mode = mode;
  out.size = size;
  out.u = u;
  out.uid = 3000000;
  out.gid = 7;
  out.mtime = static_cast<uint64_t>(-5);
  out.mtimeNs = 999999999;
  out.nlink = 1;
  return out;
}

inline std::string manyName(size_t index) {
  std::string digits = std::to_string(index);
  return "name-" + std::string(4 - digits.size(), '0') + digits;
}

inline std::vector<uint8_t> image() {
  std::vector<uint8_t> out(static_cast<size_t>(kManyBlock) * 512);
  SuperBlock super{};
  super.magic = kMagic;
  super.blkszbits = 9;
  super.rootNid = kRoot;
  super.inos = 7;
  super.xattrBlkaddr = kXattrBlock;
  super.featureIncompat = kIncompatChunkedFile | kIncompatDeviceTable;
  super.extraDevices = 2;
  super.devtSlotoff = 9;
  put(out, kSuperOffset, super);

  const std::string root = dirBlock({{".", kRoot, 2},
                                     {"..", kRoot, 2},
                                     {"compact", kCompact, 1},
                                     {"device", kDevice, 3},
                                     {"file", kFile, 1},
                                     {"link", kLink, 7},
                                     {"many", kMany, 2},
                                     {"tagged", kTagged, 1}});
  put(out, kRoot * 32, inode(kFlatInline, S_IFDIR | 0755, root.size(), 0));
  putText(out, kRoot * 32 + 64, root);

  put(out, kFile * 32, inode(kChunkBased, S_IFREG | 0644, 1300, kChunkIndexes));
  put(out, kFile * 32 + 64, ChunkIndex{0, 1, 2});
  put(out, kFile * 32 + 72, ChunkIndex{0, 0, kNullBlock});
  put(out, kFile * 32 + 80, ChunkIndex{0, 2, 0});

  put(out, kLink * 32, inode(kFlatInline, S_IFLNK | 0777, 6, 0));
  putText(out, kLink * 32 + 64, "target");

  InodeExtended tagged = inode(kFlatInline, S_IFREG | 0644, 5, 0);
  // Header 12, one shared id 4, entry 4 + "a" + "value" padded to 12: 28 bytes, counted as (28 - 12) / 4 + 1.
  tagged.xattrIcount = 5;
  put(out, kTagged * 32, tagged);
  XattrHeader header{};
  header.sharedCount = 1;
  put(out, kTagged * 32 + 64, header);
  put(out, kTagged * 32 + 76, uint32_t{0});
  put(out, kTagged * 32 + 80, XattrEntry{1, 1, 5});
  putText(out, kTagged * 32 + 84, "avalue");
  putText(out, kTagged * 32 + 92, "hello");
  put(out, kXattrBlock * 512, XattrEntry{10, 6, 3});
  putText(out, kXattrBlock * 512 + 4, "capabilityabc");

  put(out, kDevice * 32, inode(kFlatPlain, S_IFCHR | 0600, 0, 0x103));

  InodeCompact compact{};
  compact.mode = S_IFREG | 0400;
  compact.nlink = 1;
  compact.size = 600;
  compact.u = kPlainBlock;
  put(out, kCompact * 32, compact);
  putText(out, kPlainBlock * 512, std::string(600, 'p'));

  std::vector<std::vector<Name>> blocks(1);
  blocks[0] = {{".", kMany, 2}, {"..", kRoot, 2}};
  for (size_t i = 0; i < kManyNames; ++i) {
    if (blocks.back().size() == 20) blocks.emplace_back();
    blocks.back().push_back({manyName(i), kFile, 1});
  }
  const std::string last = dirBlock(blocks.back());
  put(out, kMany * 32, inode(kFlatPlain, S_IFDIR | 0755, (blocks.size() - 1) * 512 + last.size(), kManyBlock));
  for (size_t i = 0; i < blocks.size(); ++i) putText(out, (kManyBlock + i) * 512, dirBlock(blocks[i]));
  return out;
}

}  // namespace erofs_fixture
