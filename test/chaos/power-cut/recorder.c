// LD_PRELOAD: writes down what a process does to the files below PEEL_RECORD_ROOT, in order, to the file PEEL_RECORD_LOG. Every inode
// that appears there gets a second name in PEEL_RECORD_INODES, so that it can be brought back as the same one after it was removed.
//
// One record: type, uint64 inode, uint64 offset, uint64 length, uint32 bytes of path, uint32 bytes of second path, then path, second path and, of
// a write, its bytes. Little-endian, one after the other. Whatever is recorded has succeeded.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int logFd = -1;
static char root[4096], inodes[4096];
static size_t rootLength;

__attribute__((constructor)) static void begin(void) {
  const char* path = getenv("PEEL_RECORD_LOG");
  if (!path) return;
  snprintf(root, sizeof root, "%s", getenv("PEEL_RECORD_ROOT"));
  snprintf(inodes, sizeof inodes, "%s", getenv("PEEL_RECORD_INODES"));
  rootLength = strlen(root);
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  // Out of the way of who counts his own.
  logFd = fcntl(fd, F_DUPFD_CLOEXEC, 900);
  syscall(SYS_close, fd);
}

static int isBelow(const char* path) {
  return strncmp(path, root, rootLength) == 0 && (path[rootLength] == '/' || path[rootLength] == 0);
}

static void put(const void* bytes, size_t length) {
  const char* at = bytes;
  while (length > 0) {
    ssize_t n = syscall(SYS_write, logFd, at, length);
    if (n <= 0) abort();
    at += n;
    length -= (size_t)n;
  }
}

static void record(char type, uint64_t inode, uint64_t offset, uint64_t length, const char* path, const char* other, const void* bytes) {
  struct __attribute__((packed)) {
    char type;
    uint64_t inode, offset, length;
    uint32_t path, other;
  } head = {type, inode, offset, length, path ? strlen(path) : 0, other ? strlen(other) : 0};
  put(&head, sizeof head);
  if (path) put(path, head.path);
  if (other) put(other, head.other);
  if (bytes) put(bytes, length);
}

/** The inode of a file or directory below the root; 0 for others. */
static uint64_t inodeOf(int fd) {
  if (logFd < 0) return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  struct stat info;
  if (!isBelow(path) || fstat(fd, &info) < 0) return 0;
  return info.st_ino;
}

/** A path that was just opened, and whether it was there before. */
static void opened(const char* path, int fd, int wasThere, int flags) {
  struct stat info;
  if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode)) return;
  if (!wasThere) {
    char second[8192];
    snprintf(second, sizeof second, "%s/%llu", inodes, (unsigned long long)info.st_ino);
    syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, second, 0);
    record('C', info.st_ino, 0, 0, path, NULL, NULL);
  } else if (flags & O_TRUNC) {
    record('T', info.st_ino, 0, 0, NULL, NULL, NULL);
  }
}

static int openRecorded(int dir, const char* path, int flags, mode_t mode) {
  if (logFd < 0 || !isBelow(path) || !(flags & (O_CREAT | O_TRUNC))) return (int)syscall(SYS_openat, dir, path, flags, mode);
  pthread_mutex_lock(&mutex);
  struct stat info;
  int wasThere = lstat(path, &info) == 0;
  int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
  int err = errno;
  if (fd >= 0) opened(path, fd, wasThere, flags);
  pthread_mutex_unlock(&mutex);
  errno = err;
  return fd;
}

#define OPEN(name)                                   \
  int name(const char* path, int flags, ...) {       \
    va_list list;                                    \
    va_start(list, flags);                           \
    mode_t mode = va_arg(list, mode_t);              \
    va_end(list);                                    \
    return openRecorded(AT_FDCWD, path, flags, mode); \
  }
OPEN(open)
OPEN(open64)
#define OPENAT(name)                                       \
  int name(int dir, const char* path, int flags, ...) {    \
    va_list list;                                          \
    va_start(list, flags);                                 \
    mode_t mode = va_arg(list, mode_t);                    \
    va_end(list);                                          \
    return openRecorded(dir, path, flags, mode);           \
  }
OPENAT(openat)
OPENAT(openat64)

// done: whether it succeeded; entry: what to record then, for an inode of ours.
#define RECORDED(type, fd, call, done, entry)      \
  uint64_t inode = inodeOf(fd);                    \
  if (inode == 0) return call;                     \
  pthread_mutex_lock(&mutex);                      \
  type result = call;                              \
  int err = errno;                                 \
  if (done) entry;                                 \
  pthread_mutex_unlock(&mutex);                    \
  errno = err;                                     \
  return result;

static ssize_t pwriteRecorded(int fd, const void* bytes, size_t length, off_t offset) {
  RECORDED(ssize_t, fd, syscall(SYS_pwrite64, fd, bytes, length, offset), result > 0,
           record('W', inode, (uint64_t)offset, (uint64_t)result, NULL, NULL, bytes))
}
ssize_t pwrite(int fd, const void* bytes, size_t length, off_t offset) { return pwriteRecorded(fd, bytes, length, offset); }
ssize_t pwrite64(int fd, const void* bytes, size_t length, off_t offset) { return pwriteRecorded(fd, bytes, length, offset); }

ssize_t write(int fd, const void* bytes, size_t length) {
  off_t at = logFd < 0 ? 0 : lseek(fd, 0, SEEK_CUR);
  RECORDED(ssize_t, fd, syscall(SYS_write, fd, bytes, length), result > 0,
           record('W', inode, (uint64_t)at, (uint64_t)result, NULL, NULL, bytes))
}

ssize_t writev(int fd, const struct iovec* parts, int count) {
  if (inodeOf(fd) == 0) return syscall(SYS_writev, fd, parts, count);
  ssize_t total = 0;
  for (int i = 0; i < count; i++) {
    ssize_t n = write(fd, parts[i].iov_base, parts[i].iov_len);
    if (n < 0) return total > 0 ? total : n;
    total += n;
    if ((size_t)n < parts[i].iov_len) break;
  }
  return total;
}

static ssize_t pwritevRecorded(int fd, const struct iovec* parts, int count, off_t offset) {
  if (inodeOf(fd) == 0) return syscall(SYS_pwritev, fd, parts, count, offset, 0);
  ssize_t total = 0;
  for (int i = 0; i < count; i++) {
    ssize_t n = pwriteRecorded(fd, parts[i].iov_base, parts[i].iov_len, offset + total);
    if (n < 0) return total > 0 ? total : n;
    total += n;
    if ((size_t)n < parts[i].iov_len) break;
  }
  return total;
}
ssize_t pwritev(int fd, const struct iovec* parts, int count, off_t offset) { return pwritevRecorded(fd, parts, count, offset); }
ssize_t pwritev64(int fd, const struct iovec* parts, int count, off_t offset) { return pwritevRecorded(fd, parts, count, offset); }

static int truncateRecorded(int fd, off_t size) {
  RECORDED(int, fd, (int)syscall(SYS_ftruncate, fd, size), result == 0, record('T', inode, 0, (uint64_t)size, NULL, NULL, NULL))
}
int ftruncate(int fd, off_t size) { return truncateRecorded(fd, size); }
int ftruncate64(int fd, off_t size) { return truncateRecorded(fd, size); }

static int allocateRecorded(int fd, int mode, off_t offset, off_t length) {
  RECORDED(int, fd, (int)syscall(SYS_fallocate, fd, mode, offset, length), result == 0 && (mode & FALLOC_FL_PUNCH_HOLE),
           record('P', inode, (uint64_t)offset, (uint64_t)length, NULL, NULL, NULL))
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return allocateRecorded(fd, mode, offset, length); }
int fallocate64(int fd, int mode, off_t offset, off_t length) { return allocateRecorded(fd, mode, offset, length); }

int fsync(int fd) { RECORDED(int, fd, (int)syscall(SYS_fsync, fd), result == 0, record('S', inode, 0, 0, NULL, NULL, NULL)) }
int fdatasync(int fd) { RECORDED(int, fd, (int)syscall(SYS_fdatasync, fd), result == 0, record('S', inode, 0, 0, NULL, NULL, NULL)) }

#define NAMED(path, call, entry)                             \
  if (logFd < 0 || !isBelow(path)) return call;              \
  pthread_mutex_lock(&mutex);                                \
  int result = call;                                         \
  int err = errno;                                           \
  if (result == 0) entry;                                    \
  pthread_mutex_unlock(&mutex);                              \
  errno = err;                                               \
  return result;

int rename(const char* from, const char* to) {
  NAMED(from, (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to), record('R', 0, 0, 0, from, to, NULL))
}
int link(const char* from, const char* to) {
  NAMED(from, (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0), record('L', 0, 0, 0, from, to, NULL))
}
int unlink(const char* path) { NAMED(path, (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0), record('U', 0, 0, 0, path, NULL, NULL)) }

int mkdir(const char* path, mode_t mode) {
  struct stat info;
  NAMED(path, (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode),
        record('D', lstat(path, &info) == 0 ? info.st_ino : 0, 0, 0, path, NULL, NULL))
}
