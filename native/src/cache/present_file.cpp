#include "cache/present_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "cache/xxh64.hpp"
#include "sys/fd.hpp"
#include "sys/file_io.hpp"

namespace peel {
namespace {

constexpr char kMagic[8] = {'p', 'e', 'e', 'l', 'b', 'i', 't', 's'};
constexpr uint32_t kVersion = 1;
constexpr uint32_t kComplete = 1;

// On disk as it lies in memory: the cache belongs to one machine.
struct Header {
  char magic[8];
  uint32_t version;
  uint32_t flags;
  uint32_t spanCount;
  uint32_t reserved;
  uint64_t streamSize;
  uint8_t fingerprint[32];
  uint64_t dataInode;
  uint64_t dataBirthNs;
  uint64_t trailingZeros;
  uint64_t checksum;  // xxh64 over the header with this field 0, then the words
};
static_assert(sizeof(Header) == 96);

uint64_t checksumOf(Header header, const std::vector<uint64_t>& words) {
  header.checksum = 0;
  Xxh64 hash;
  hash.update(reinterpret_cast<const uint8_t*>(&header), sizeof header);
  hash.update(reinterpret_cast<const uint8_t*>(words.data()), words.size() * sizeof(uint64_t));
  return hash.digest();
}

}  // namespace

int readPresent(const std::string& path, const BitsIdentity& identity, BitsContent& out) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return -errno;
  Header header;
  if (int err = readFully(fd.get(), &header, sizeof header, 0)) return err == -ENODATA ? -EILSEQ : err;
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.version == 0) return -EILSEQ;
  // Before the checksum: a newer version may keep it elsewhere.
  if (header.version > kVersion) return -EPROTONOSUPPORT;
  if (header.spanCount != identity.spanCount || header.streamSize != identity.streamSize ||
      header.dataInode != identity.dataInode || header.dataBirthNs != identity.dataBirthNs ||
      std::memcmp(header.fingerprint, identity.fingerprint.data(), 32) != 0) {
    return -ESTALE;
  }
  std::vector<uint64_t> words((static_cast<size_t>(header.spanCount) + 63) / 64);
  if (int err = readFully(fd.get(), words.data(), words.size() * sizeof(uint64_t), sizeof header)) {
    return err == -ENODATA ? -EILSEQ : err;
  }
  if (checksumOf(header, words) != header.checksum) return -EILSEQ;
  out.complete = header.flags & kComplete;
  out.trailingZeros = header.trailingZeros;
  out.words = std::move(words);
  return 0;
}

int writePresent(const std::string& path, const BitsIdentity& identity, const BitsContent& content) {
  static std::atomic<unsigned> serial{0};
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.flags = content.complete ? kComplete : 0;
  header.spanCount = identity.spanCount;
  header.streamSize = identity.streamSize;
  std::memcpy(header.fingerprint, identity.fingerprint.data(), 32);
  header.dataInode = identity.dataInode;
  header.dataBirthNs = identity.dataBirthNs;
  header.trailingZeros = content.trailingZeros;
  header.checksum = checksumOf(header, content.words);

  std::string next;
  Fd fd;
  do {
    // The name may be taken: by a process with this number that died, or by one in another pid namespace.
    next = path + "." + std::to_string(::getpid()) + "-" + std::to_string(serial++) + ".tmp";
    fd.reset(::open(next.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  } while (!fd.valid() && errno == EEXIST);
  if (!fd.valid()) return -errno;
  int err = writeFully(fd.get(), &header, sizeof header, 0);
  if (!err) err = writeFully(fd.get(), content.words.data(), content.words.size() * sizeof(uint64_t), sizeof header);
  if (!err && ::fsync(fd.get()) < 0) err = -errno;
  if (!err && ::rename(next.c_str(), path.c_str()) < 0) err = -errno;
  if (err) {
    ::unlink(next.c_str());
    return err;
  }
  return fsyncDirectoryOf(path);
}

}  // namespace peel
