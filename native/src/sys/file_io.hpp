#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace peel {

// All of them: 0 or -errno, short transfers continued, EINTR retried.
int writeFully(int fd, const void* bytes, size_t length, uint64_t offset);
int readFully(int fd, void* bytes, size_t length, uint64_t offset);  // -ENODATA when the file ends before
int fsyncDirectoryOf(const std::string& path);

// Open-file-description lock on one byte; type is F_WRLCK, F_RDLCK or F_UNLCK. Waits; the kernel drops it with the holder.
int lockByte(int fd, uint64_t byte, short type);

}  // namespace peel
