// The program of a container whose answer is waited for: reads what its list names, in that order, and prints a digest of it.
//   reader LIST [ROOT]
// Each line of the list is a way of reading and a path: `w` the whole file, from start to end; `m` as a shared object is read, its first
// page and then every other piece of 64 KiB through a mapping, in an order of no pattern; `a` the same with every piece.
// Prints `answer DIGEST BYTES STARTED ANSWERED`; the last two are ms of the wall clock, with three digits after the point.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

static constexpr size_t page = 4096;
static constexpr size_t piece = size_t{64} << 10;

static double wall_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::system_clock::now().time_since_epoch()).count();
}

[[noreturn]] static void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

struct Digest {
  uint64_t value = 0x9e3779b97f4a7c15;
  uint64_t bytes = 0;

  /** `data` as it comes from one read; where a read ends counts. */
  void add(const char* data, size_t size) {
    bytes += size;
    for (; size >= 8; data += 8, size -= 8) {
      uint64_t word;
      std::memcpy(&word, data, 8);
      mix(word);
    }
    uint64_t word = size;
    std::memcpy(&word, data, size);
    mix(word);
  }

 private:
  void mix(uint64_t word) {
    value = (value ^ word) * 0xff51afd7ed558ccd;
    value ^= value >> 32;
  }
};

static void read_whole(int fd, const char* path, Digest& digest) {
  static std::vector<char> buffer(size_t{128} << 10);
  for (;;) {
    size_t filled = 0;
    while (filled < buffer.size()) {
      const ssize_t got = read(fd, buffer.data() + filled, buffer.size() - filled);
      if (got < 0) fail(path);
      if (got == 0) break;
      filled += static_cast<size_t>(got);
    }
    digest.add(buffer.data(), filled);
    if (filled < buffer.size()) return;
  }
}

static void read_mapped(int fd, const char* path, size_t step, Digest& digest) {
  struct stat about;
  if (fstat(fd, &about) != 0) fail(path);
  const auto size = static_cast<size_t>(about.st_size);
  if (size == 0) return;
  void* mapping = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (mapping == MAP_FAILED) fail(path);
  const char* bytes = static_cast<const char*>(mapping);
  digest.add(bytes, std::min(size, page));
  std::vector<size_t> pieces;
  for (size_t at = step - piece; at < size; at += step) pieces.push_back(at);
  uint64_t state = size;
  for (size_t left = pieces.size(); left > 1; left -= 1) {
    state = state * 6364136223846793005 + 1442695040888963407;
    std::swap(pieces[left - 1], pieces[(state >> 33) % left]);
  }
  for (const size_t at : pieces) digest.add(bytes + at, std::min(size - at, piece));
  munmap(mapping, size);
}

int main(int argc, char** argv) {
  const double started = wall_ms();
  if (argc < 2) {
    std::fprintf(stderr, "usage: reader LIST [ROOT]\n");
    return 2;
  }
  const std::string root = argc > 2 ? argv[2] : "";
  std::ifstream list(argv[1]);
  if (!list) fail(argv[1]);
  Digest digest;
  std::string line;
  while (std::getline(list, line)) {
    const std::string path = root + line.substr(2);
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail(path.c_str());
    if (line[0] == 'm') {
      read_mapped(fd, path.c_str(), 2 * piece, digest);
    } else if (line[0] == 'a') {
      read_mapped(fd, path.c_str(), piece, digest);
    } else {
      read_whole(fd, path.c_str(), digest);
    }
    close(fd);
  }
  if (!list.eof()) fail(argv[1]);
  std::printf("answer %016llx %llu %.3f %.3f\n", static_cast<unsigned long long>(digest.value),
              static_cast<unsigned long long>(digest.bytes), started, wall_ms());
  return 0;
}
