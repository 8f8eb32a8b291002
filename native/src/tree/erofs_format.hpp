// EROFS on disk, as far as a metadata image uses it: uncompressed inodes, directories, xattrs, chunk indexes, device slots.
// Little endian. Structs are copied out of the mapping, never pointed into: inodes may lie at any multiple of 32 bytes.
#pragma once
#include <cstdint>

namespace peel::erofs {

inline constexpr uint32_t kMagic = 0xE0F5E1E2;
inline constexpr uint64_t kSuperOffset = 1024;
inline constexpr uint64_t kSlotSize = 32;         // unit of a nid
inline constexpr uint64_t kDeviceSlotSize = 128;
inline constexpr uint32_t kNullBlock = 0xffffffff;

inline constexpr uint32_t kIncompatChunkedFile = 0x4;
inline constexpr uint32_t kIncompatDeviceTable = 0x8;

struct SuperBlock {
  uint32_t magic;
  uint32_t checksum;
  uint32_t featureCompat;
  uint8_t blkszbits;
  uint8_t sbExtslots;
  uint16_t rootNid;
  uint64_t inos;
  uint64_t buildTime;
  uint32_t buildTimeNs;
  uint32_t blocks;
  uint32_t metaBlkaddr;
  uint32_t xattrBlkaddr;
  uint8_t uuid[16];
  uint8_t volumeName[16];
  uint32_t featureIncompat;
  uint16_t comprAlgs;
  uint16_t extraDevices;
  uint16_t devtSlotoff;  // device table starts at devtSlotoff * 128
  uint8_t dirblkbits;
  uint8_t xattrPrefixCount;
  uint32_t xattrPrefixStart;
  uint64_t packedNid;
  uint8_t xattrFilterReserved;
  uint8_t reserved[23];
};
static_assert(sizeof(SuperBlock) == 128);

struct InodeCompact {
  uint16_t format;
  uint16_t xattrIcount;
  uint16_t mode;
  uint16_t nlink;
  uint32_t size;
  uint32_t reserved;
  uint32_t u;
  uint32_t ino;
  uint16_t uid;
  uint16_t gid;
  uint32_t reserved2;
};
static_assert(sizeof(InodeCompact) == 32);

struct InodeExtended {
  uint16_t format;
  uint16_t xattrIcount;
  uint16_t mode;
  uint16_t reserved;
  uint64_t size;
  uint32_t u;
  uint32_t ino;
  uint32_t uid;
  uint32_t gid;
  uint64_t mtime;
  uint32_t mtimeNs;
  uint32_t nlink;
  uint8_t reserved2[16];
};
static_assert(sizeof(InodeExtended) == 64);

enum Layout : uint8_t { kFlatPlain = 0, kFlatInline = 2, kChunkBased = 4 };

inline constexpr uint16_t kChunkBlkBitsMask = 0x1f;
inline constexpr uint16_t kChunkIndexes = 0x20;

struct ChunkIndex {
  uint16_t startblkHi;
  uint16_t deviceId;
  uint32_t startblk;
};
static_assert(sizeof(ChunkIndex) == 8);

struct Dirent {
  uint64_t nid;
  uint16_t nameoff;
  uint8_t fileType;
  uint8_t reserved;
} __attribute__((packed));
static_assert(sizeof(Dirent) == 12);

struct XattrHeader {
  uint32_t nameFilter;
  uint8_t sharedCount;
  uint8_t reserved[7];
};
static_assert(sizeof(XattrHeader) == 12);

struct XattrEntry {
  uint8_t nameLen;
  uint8_t nameIndex;
  uint16_t valueSize;
};
static_assert(sizeof(XattrEntry) == 4);

}  // namespace peel::erofs
