#include "tree/image.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "sys/fd.hpp"

namespace peel::erofs {

bool Inode::isDir() const { return S_ISDIR(mode); }
bool Inode::isRegular() const { return S_ISREG(mode); }
bool Inode::isSymlink() const { return S_ISLNK(mode); }
bool Inode::isDevice() const { return S_ISCHR(mode) || S_ISBLK(mode); }

int Image::open(const std::string& path, std::unique_ptr<Image>& out) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return -errno;
  struct stat st;
  if (::fstat(fd.get(), &st) < 0) return -errno;
  if (!S_ISREG(st.st_mode)) return -EINVAL;
  if (st.st_size < static_cast<off_t>(kSuperOffset + sizeof(SuperBlock))) return -EUCLEAN;
  const auto size = static_cast<size_t>(st.st_size);
  void* base = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) return -errno;
  std::unique_ptr<Image> image(new Image);
  image->base_ = static_cast<const uint8_t*>(base);
  image->size_ = size;
  image->mapped_ = true;
  if (int err = image->start()) return err;
  out = std::move(image);
  return 0;
}

int Image::attach(const uint8_t* bytes, uint64_t size, std::unique_ptr<Image>& out) {
  std::unique_ptr<Image> image(new Image);
  image->base_ = bytes;
  image->size_ = size;
  if (int err = image->start()) return err;
  out = std::move(image);
  return 0;
}

Image::~Image() {
  if (mapped_) ::munmap(const_cast<uint8_t*>(base_), size_);
}

int Image::start() {
  if (!load(kSuperOffset, super_)) return -EUCLEAN;
  if (super_.magic != kMagic) return -EUCLEAN;
  if (super_.blkszbits < 9 || super_.blkszbits > 16) return -EOPNOTSUPP;
  // Compression, fragments, long xattr prefixes and 48-bit layouts: our writer makes none of them.
  if (super_.featureIncompat & ~(kIncompatChunkedFile | kIncompatDeviceTable)) return -EOPNOTSUPP;
  if (super_.dirblkbits != 0 || super_.xattrPrefixCount != 0) return -EOPNOTSUPP;
  // As the kernel masks device ids: with the next power of two above the number of devices.
  uint32_t mask = 1;
  while (mask < uint32_t{super_.extraDevices} + 1) mask <<= 1;
  deviceMask_ = mask - 1;
  Inode root;
  if (int err = inode(super_.rootNid, root)) return err;
  return root.isDir() ? 0 : -EUCLEAN;
}

int Image::inode(uint64_t nid, Inode& out) const {
  // Keeps nid * 32 from overflowing, and st_ino below 2^32.
  if (nid > 0xffffffff) return -EUCLEAN;
  const uint64_t at = (uint64_t{super_.metaBlkaddr} << super_.blkszbits) + nid * kSlotSize;
  InodeCompact compact;
  if (!load(at, compact)) return -EUCLEAN;
  const uint16_t format = compact.format;
  // Bit 0: extended; bits 1-3: layout; the rest belongs to newer formats.
  if (format & ~uint16_t{0xf}) return -EUCLEAN;
  out.nid = nid;
  out.layout = static_cast<uint8_t>(format >> 1 & 7);
  if (out.layout != kFlatPlain && out.layout != kFlatInline && out.layout != kChunkBased) return -EUCLEAN;
  uint64_t head = sizeof(InodeCompact);
  if (format & 1) {
    InodeExtended full;
    if (!load(at, full)) return -EUCLEAN;
    head = sizeof full;
    out.mode = full.mode;
    out.size = full.size;
    out.u = full.u;
    out.nlink = full.nlink;
    out.uid = full.uid;
    out.gid = full.gid;
    out.mtime = static_cast<int64_t>(full.mtime);
    out.mtimeNs = full.mtimeNs;
  } else {
    out.mode = compact.mode;
    out.size = compact.size;
    out.u = compact.u;
    out.nlink = compact.nlink;
    out.uid = compact.uid;
    out.gid = compact.gid;
    out.mtime = static_cast<int64_t>(super_.buildTime);
    out.mtimeNs = super_.buildTimeNs;
  }
  switch (out.mode & S_IFMT) {
    case S_IFREG: case S_IFDIR: case S_IFLNK: case S_IFCHR: case S_IFBLK: case S_IFIFO: case S_IFSOCK: break;
    default: return -EUCLEAN;
  }
  // The kernel keeps sizes in a signed 64-bit number.
  if (out.size > static_cast<uint64_t>(INT64_MAX)) return -EUCLEAN;
  if (out.mtimeNs >= 1000000000) return -EUCLEAN;
  out.xattrAt = at + head;
  out.xattrSize =
      compact.xattrIcount == 0 ? 0 : sizeof(XattrHeader) + sizeof(uint32_t) * (uint64_t{compact.xattrIcount} - 1);
  return bytes(out.xattrAt, out.xattrSize) != nullptr ? 0 : -EUCLEAN;
}

int Image::readlink(const Inode& link, std::string_view& out) const {
  if (!link.isSymlink()) return -EINVAL;
  Extent extent;
  if (link.size == 0 || link.size > 4096) return -EUCLEAN;
  if (int err = this->extent(link, 0, link.size, extent)) return err;
  // A target that continues in a second run (a plain block, then an inline tail) is not made by our writer.
  if (extent.device != 0 || extent.length != link.size) return -EUCLEAN;
  const uint8_t* target = bytes(extent.at, extent.length);
  if (target == nullptr) return -EUCLEAN;
  out = std::string_view(reinterpret_cast<const char*>(target), extent.length);
  return out.find('\0') == std::string_view::npos ? 0 : -EUCLEAN;
}

}  // namespace peel::erofs
