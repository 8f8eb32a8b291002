// What a program inside a mount does, timed from the outside of peel: one mode per run, one JSON line.
//   probe walk DIR            readdir + lstat of every name                -> {"entries":N,"seconds":S}
//   probe lookup DIR COUNT    lstat of COUNT names that do not exist       -> {"lookups":N,"seconds":S}
//   probe stat LIST           lstat of each path of the file LIST          -> {"lookups":N,"seconds":S}
//   probe seq FILE            read it from start to end, 1 MiB at a time   -> {"bytes":N,"seconds":S}
//   probe random FILE COUNT   COUNT reads of 4 KiB at random offsets       -> {"reads":N,"seconds":S}
//   probe first FILE          open and read one byte                       -> {"seconds":S}
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

using Clock = std::chrono::steady_clock;

static double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

[[noreturn]] static void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

static uint64_t walk(int parent, const char* name) {
  const int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) fail(name);
  DIR* dir = fdopendir(fd);
  uint64_t entries = 0;
  std::vector<std::string> children;
  while (const dirent* entry = readdir(dir)) {
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    struct stat st;
    if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) fail(entry->d_name);
    entries++;
    if (S_ISDIR(st.st_mode)) children.emplace_back(entry->d_name);
  }
  for (const auto& child : children) entries += walk(fd, child.c_str());
  closedir(dir);
  return entries;
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const std::string mode = argv[1];
  const auto start = Clock::now();
  if (mode == "walk") {
    const uint64_t entries = walk(AT_FDCWD, argv[2]);
    std::printf("{\"entries\":%llu,\"seconds\":%.6f}\n", static_cast<unsigned long long>(entries), since(start));
  } else if (mode == "lookup" && argc > 3) {
    const int fd = open(argv[2], O_RDONLY | O_DIRECTORY);
    if (fd < 0) fail(argv[2]);
    const long count = std::atol(argv[3]);
    char name[64];
    struct stat st;
    for (long i = 0; i < count; i++) {
      std::snprintf(name, sizeof name, "no-such-name-%ld-%d", i, getpid());
      if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) fail("a name that should not exist");
    }
    std::printf("{\"lookups\":%ld,\"seconds\":%.6f}\n", count, since(start));
  } else if (mode == "stat") {
    std::ifstream list(argv[2]);
    std::vector<std::string> paths;
    for (std::string line; std::getline(list, line);) paths.push_back(line);
    const auto begin = Clock::now();
    struct stat st;
    for (const auto& path : paths) {
      if (lstat(path.c_str(), &st) != 0) fail(path.c_str());
    }
    std::printf("{\"lookups\":%zu,\"seconds\":%.6f}\n", paths.size(), since(begin));
  } else if (mode == "seq") {
    const int fd = open(argv[2], O_RDONLY);
    if (fd < 0) fail(argv[2]);
    std::vector<char> buffer(1 << 20);
    uint64_t bytes = 0;
    for (ssize_t n; (n = read(fd, buffer.data(), buffer.size())) != 0;) {
      if (n < 0) fail("read");
      bytes += static_cast<uint64_t>(n);
    }
    std::printf("{\"bytes\":%llu,\"seconds\":%.6f}\n", static_cast<unsigned long long>(bytes), since(start));
  } else if (mode == "random" && argc > 3) {
    const int fd = open(argv[2], O_RDONLY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) fail(argv[2]);
    const long count = std::atol(argv[3]);
    std::mt19937_64 random(42);
    char page[4096];
    for (long i = 0; i < count; i++) {
      const off_t offset = static_cast<off_t>(random() % static_cast<uint64_t>(st.st_size / 4096)) * 4096;
      if (pread(fd, page, sizeof page, offset) != static_cast<ssize_t>(sizeof page)) fail("pread");
    }
    std::printf("{\"reads\":%ld,\"seconds\":%.6f}\n", count, since(start));
  } else if (mode == "first") {
    const int fd = open(argv[2], O_RDONLY);
    char byte;
    if (fd < 0 || read(fd, &byte, 1) != 1) fail(argv[2]);
    std::printf("{\"seconds\":%.6f}\n", since(start));
  } else {
    return 2;
  }
  return 0;
}
