// File calls that Node does not have, on raw byte paths. All return 0 or -errno.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace peel {

struct FsStat {
  uint64_t type;  // f_type, the magic number
  uint64_t freeBytes;  // for an ordinary user
  uint64_t totalBytes;
};

/** Never waits: -EWOULDBLOCK when another holds it. The lock belongs to the open file description. */
int tryLockFile(int fd, bool exclusive);
int unlockFile(int fd);

int makeNode(const std::string& path, uint32_t mode, uint32_t major, uint32_t minor);

int getXattr(const std::string& path, const std::string& name, std::vector<uint8_t>& value);
int setXattr(const std::string& path, const std::string& name, const uint8_t* value, size_t size);
int listXattrs(const std::string& path, std::vector<std::string>& names);

/** atime and mtime of the file itself, also when it is a symlink. */
int setTimes(const std::string& path, int64_t mtime, uint32_t mtimeNs);

/** All that was written to the filesystem that holds `path`, by anybody, is on its disk. */
int syncFs(const std::string& path);

int statFs(const std::string& path, FsStat& out);

/** Whether 512 bytes at offset 512 can be read with O_DIRECT: false on disks with larger sectors and where O_DIRECT is refused. */
int canDirectIo(const std::string& path, bool& out);

/** No core dumps and no ptrace by the same user: the process holds registry credentials. */
int makeUndumpable();

/** Gives the pages of freed memory back to the system. */
void trimHeap();

/** This process becomes another program, with its environment and `fds`, whoever marked them for closing. Returns only when it fails: -errno. */
int executeProgram(const std::string& path, const std::vector<std::string>& words, const std::vector<int>& fds);

/** One datagram to systemd's socket; `address` as in NOTIFY_SOCKET ("@" for an abstract one). */
int sendNotify(const std::string& address, const std::string& text);

}  // namespace peel
