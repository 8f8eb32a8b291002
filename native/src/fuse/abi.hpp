// The part of the kernel's FUSE protocol (7.41) that a read-only server speaks: message layouts and numbers.
// All fields are in host byte order; every struct is a multiple of 8 bytes, as the kernel pads them.
#pragma once
#include <cstdint>

namespace peel::fuse {

inline constexpr uint32_t kMajor = 7;
inline constexpr uint32_t kMinor = 41;
/** Older kernels use shorter INIT and ENTRY messages that nobody runs any more. */
inline constexpr uint32_t kOldestMinor = 23;
inline constexpr uint64_t kRootId = 1;

enum class Opcode : uint32_t {
  kLookup = 1, kForget = 2, kGetattr = 3, kSetattr = 4, kReadlink = 5, kSymlink = 6, kMknod = 8, kMkdir = 9,
  kUnlink = 10, kRmdir = 11, kRename = 12, kLink = 13, kOpen = 14, kRead = 15, kWrite = 16, kStatfs = 17,
  kRelease = 18, kFsync = 20, kSetxattr = 21, kGetxattr = 22, kListxattr = 23, kRemovexattr = 24, kFlush = 25,
  kInit = 26, kOpendir = 27, kReaddir = 28, kReleasedir = 29, kFsyncdir = 30, kAccess = 34, kCreate = 35,
  kInterrupt = 36, kDestroy = 38, kBatchForget = 42, kFallocate = 43, kReaddirplus = 44, kRename2 = 45, kLseek = 46,
  kTmpfile = 51, kStatx = 52,
};

/** INIT flags; those above bit 31 travel in `flags2`. */
namespace init_flag {
inline constexpr uint64_t kAsyncRead = 1ull << 0;
inline constexpr uint64_t kExportSupport = 1ull << 4;
inline constexpr uint64_t kDoReaddirplus = 1ull << 13;
inline constexpr uint64_t kAsyncDio = 1ull << 15;
inline constexpr uint64_t kNoOpenSupport = 1ull << 17;
inline constexpr uint64_t kParallelDirops = 1ull << 18;
inline constexpr uint64_t kPosixAcl = 1ull << 20;
inline constexpr uint64_t kAbortError = 1ull << 21;
inline constexpr uint64_t kMaxPages = 1ull << 22;
inline constexpr uint64_t kCacheSymlinks = 1ull << 23;
inline constexpr uint64_t kNoOpendirSupport = 1ull << 24;
inline constexpr uint64_t kExplicitInvalData = 1ull << 25;
inline constexpr uint64_t kInitExt = 1ull << 30;
inline constexpr uint64_t kPassthrough = 1ull << 37;
inline constexpr uint64_t kHasResend = 1ull << 39;
inline constexpr uint64_t kAllowIdmap = 1ull << 40;
}  // namespace init_flag

/** OPEN reply flags. */
inline constexpr uint32_t kOpenKeepCache = 1u << 1;
inline constexpr uint32_t kOpenNoFlush = 1u << 5;
inline constexpr uint32_t kOpenPassthrough = 1u << 7;

/** Set in `unique` of an INTERRUPT; the rest is the request it speaks of. */
inline constexpr uint64_t kInterruptBit = 1;
/** From one request to the next. */
inline constexpr uint64_t kUniqueStep = 2;
/** Set in `unique` of a request that the kernel sends again; it is answered with it. */
inline constexpr uint64_t kResendBit = 1ull << 63;

/** In `error` of a message with `unique` 0: everything that was read and not answered is sent again (7.40). */
inline constexpr int32_t kNotifyResend = 7;

struct InHeader {
  uint32_t len;
  uint32_t opcode;
  uint64_t unique;
  uint64_t nodeid;
  uint32_t uid;
  uint32_t gid;
  uint32_t pid;
  uint16_t totalExtlen;
  uint16_t padding;
};
static_assert(sizeof(InHeader) == 40);

struct OutHeader {
  uint32_t len;
  int32_t error;
  uint64_t unique;
};
static_assert(sizeof(OutHeader) == 16);

struct Attr {
  uint64_t ino;
  uint64_t size;
  uint64_t blocks;
  uint64_t atime;
  uint64_t mtime;
  uint64_t ctime;
  uint32_t atimeNs;
  uint32_t mtimeNs;
  uint32_t ctimeNs;
  uint32_t mode;
  uint32_t nlink;
  uint32_t uid;
  uint32_t gid;
  uint32_t rdev;
  uint32_t blksize;
  uint32_t flags;
};
static_assert(sizeof(Attr) == 88);

struct EntryOut {
  uint64_t nodeid;
  uint64_t generation;
  uint64_t entryValid;
  uint64_t attrValid;
  uint32_t entryValidNs;
  uint32_t attrValidNs;
  Attr attr;
};
static_assert(sizeof(EntryOut) == 128);

struct AttrOut {
  uint64_t attrValid;
  uint32_t attrValidNs;
  uint32_t padding;
  Attr attr;
};
static_assert(sizeof(AttrOut) == 104);

struct InitIn {
  uint32_t major;
  uint32_t minor;
  uint32_t maxReadahead;
  uint32_t flags;
  uint32_t flags2;
  uint32_t unused[11];
};
/** What kernels before 7.36 send. */
inline constexpr uint32_t kOldInitInSize = 16;

struct InitOut {
  uint32_t major;
  uint32_t minor;
  uint32_t maxReadahead;
  uint32_t flags;
  uint16_t maxBackground;
  uint16_t congestionThreshold;
  uint32_t maxWrite;
  uint32_t timeGran;
  uint16_t maxPages;
  uint16_t mapAlignment;
  uint32_t flags2;
  uint32_t maxStackDepth;
  uint32_t unused[6];
};
static_assert(sizeof(InitOut) == 64);

struct GetattrIn {
  uint32_t flags;
  uint32_t padding;
  uint64_t fh;
};

struct OpenIn {
  uint32_t flags;
  uint32_t openFlags;
};

struct OpenOut {
  uint64_t fh;
  uint32_t openFlags;
  int32_t backingId;
};
static_assert(sizeof(OpenOut) == 16);

struct ReleaseIn {
  uint64_t fh;
  uint32_t flags;
  uint32_t releaseFlags;
  uint64_t lockOwner;
};

/** READ, READDIR and READDIRPLUS. */
struct ReadIn {
  uint64_t fh;
  uint64_t offset;
  uint32_t size;
  uint32_t readFlags;
  uint64_t lockOwner;
  uint32_t flags;
  uint32_t padding;
};
static_assert(sizeof(ReadIn) == 40);

struct Statfs {
  uint64_t blocks;
  uint64_t bfree;
  uint64_t bavail;
  uint64_t files;
  uint64_t ffree;
  uint32_t bsize;
  uint32_t namelen;
  uint32_t frsize;
  uint32_t padding;
  uint32_t spare[6];
};
static_assert(sizeof(Statfs) == 80);

/** GETXATTR and LISTXATTR; the same shape answers a question for the size alone. */
struct XattrSize {
  uint32_t size;
  uint32_t padding;
};

struct InterruptIn {
  uint64_t unique;
};

struct LseekIn {
  uint64_t fh;
  uint64_t offset;
  uint32_t whence;
  uint32_t padding;
};

struct LseekOut {
  uint64_t offset;
};

/** Followed by the name, then zeros up to a multiple of 8. */
struct Dirent {
  uint64_t ino;
  uint64_t offset;
  uint32_t namelen;
  uint32_t type;
};
static_assert(sizeof(Dirent) == 24);

struct BackingMap {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};

}  // namespace peel::fuse
