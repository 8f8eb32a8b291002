// Preloaded: the file whose path ends with PEEL_BAD_FILE cannot be read in the bytes PEEL_BAD_RANGE (FROM-TO), as where a disk has a sector that
// went bad, until something is written there.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int mended;

static int isIn(int fd, off_t offset, size_t size) {
  const char *file = getenv("PEEL_BAD_FILE"), *range = getenv("PEEL_BAD_RANGE");
  long long from, to;
  if (file == NULL || range == NULL || sscanf(range, "%lld-%lld", &from, &to) != 2) return 0;
  if (offset >= to || offset + (off_t)size <= from) return 0;
  char name[64], path[4096];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(name, path, sizeof path - 1);
  const size_t end = strlen(file);
  return length > 0 && (size_t)length >= end && memcmp(path + length - end, file, end) == 0;
}

ssize_t pread64(int fd, void *bytes, size_t size, off_t offset) {
  static ssize_t (*next)(int, void *, size_t, off_t);
  if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "pread64");
  if (!mended && isIn(fd, offset, size)) {
    errno = EIO;
    return -1;
  }
  return next(fd, bytes, size, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t offset) {
  static ssize_t (*next)(int, const void *, size_t, off_t);
  if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "pwrite64");
  if (isIn(fd, offset, size)) mended = 1;
  return next(fd, bytes, size, offset);
}
