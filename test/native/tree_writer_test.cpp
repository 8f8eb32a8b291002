// Encoded operations, as damaged as can be, against a directory beside one that must not change; and ways through a tree
// with openat2(2) and without.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "apply/open_beneath.hpp"
#include "apply/op_reader.hpp"
#include "apply/op_runner.hpp"
#include "apply/remove_tree.hpp"
#include "apply/tree_writer.hpp"
#include "check.hpp"
#include "sys/display_bytes.hpp"

namespace fs = std::filesystem;
using namespace peel;

namespace {

using Bytes = std::vector<uint8_t>;

struct TempDir {
  TempDir() {
    // In memory where that is possible: the names that come and go here are many.
    const fs::path memory = "/dev/shm";
    const bool fast = ::access(memory.c_str(), W_OK) == 0;
    std::string name = ((fast ? memory : fs::temp_directory_path()) / "peel-tree-XXXXXX").string();
    CHECK(::mkdtemp(name.data()));
    path = name;
  }
  ~TempDir() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  fs::path path;
};

Fd openDir(const fs::path& path) { return Fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)); }

template <class T>
void put(Bytes& out, T value) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof value);
}

void putText(Bytes& out, const std::string& text) {
  put(out, static_cast<uint32_t>(text.size()));
  out.insert(out.end(), text.begin(), text.end());
  out.push_back(0);
}

void putAttributes(Bytes& out, check::Random& random) {
  put(out, static_cast<uint32_t>(random.below(010000)));
  put(out, static_cast<uint32_t>(random.below(3)));
  put(out, static_cast<uint32_t>(random.below(3)));
  put(out, static_cast<int64_t>(random.below(2'000'000)) - 1'000'000);
  put(out, static_cast<uint32_t>(random.below(1'000'000'000)));
  const auto count = static_cast<uint32_t>(random.below(3));
  put(out, count);
  for (uint32_t i = 0; i < count; i++) {
    putText(out, i ? "user.b" : "user.a");
    putText(out, std::string(random.below(20), 'v'));
  }
}

std::string somePath(check::Random& random) {
  // The links lead out.
  const char* parts[] = {"a", "b", "link", "up", "f"};
  std::string path = parts[random.below(5)];
  for (uint64_t i = random.below(3); i > 0; i--) path += std::string("/") + parts[random.below(5)];
  return path;
}

Bytes someOp(check::Random& random) {
  Bytes out;
  const auto kind = static_cast<uint8_t>(1 + random.below(7));
  put(out, kind);
  putText(out, somePath(random));
  switch (static_cast<OpKind>(kind)) {
    case OpKind::File: {
      putAttributes(out, random);
      put(out, uint64_t{300'000});
      put(out, uint32_t{0});
      const auto count = static_cast<uint32_t>(random.below(3));
      put(out, count);
      for (uint32_t i = 0; i < count; i++) {
        put(out, uint64_t{i * 150'000});
        put(out, random.below(1000));
        put(out, random.below(150'000));
      }
      break;
    }
    case OpKind::Symlink:
      putText(out, random.below(2) ? "../outside" : "/etc");
      putAttributes(out, random);
      break;
    case OpKind::Node:
      put(out, static_cast<uint8_t>(1 + random.below(3)));
      put(out, uint32_t{1});
      put(out, uint32_t{3});
      putAttributes(out, random);
      break;
    case OpKind::Link: putText(out, somePath(random)); break;
    case OpKind::Describe: putAttributes(out, random); break;
    default: break;
  }
  return out;
}

void mutate(Bytes& bytes, check::Random& random) {
  for (uint64_t i = random.below(3); i > 0 && !bytes.empty(); i--) {
    const size_t at = random.below(bytes.size());
    switch (random.below(5)) {
      case 0: bytes.resize(at); break;
      case 1: bytes[at] = static_cast<uint8_t>(random.next()); break;
      case 2: bytes[at] ^= static_cast<uint8_t>(1 << random.below(8)); break;
      case 3: bytes[at] = "./\0"[random.below(3)]; break;
      default: bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(at), static_cast<uint8_t>(random.next()));
    }
  }
}

// Everything about what is beneath a directory, as text.
std::string look(const fs::path& top) {
  std::map<std::string, std::string> found;
  auto add = [&](const fs::path& path) {
    struct stat st;
    CHECK(::lstat(path.c_str(), &st) == 0);
    std::string& text = found[path.string()];
    const auto numbers = {uint64_t{st.st_mode}, uint64_t{st.st_uid}, uint64_t{st.st_nlink}, static_cast<uint64_t>(st.st_size),
                          static_cast<uint64_t>(st.st_mtim.tv_sec), static_cast<uint64_t>(st.st_mtim.tv_nsec)};
    for (const uint64_t number : numbers) text += " " + std::to_string(number);
  };
  add(top);
  for (const auto& entry : fs::recursive_directory_iterator(top)) add(entry.path());
  std::string text;
  for (const auto& [path, what] : found) text += path + what + "\n";
  return text;
}

void inBothWays(const std::function<void()>& body) {
  for (const bool with : {true, false}) {
    useOpenat2 = with;
    body();
  }
  useOpenat2 = true;
}

}  // namespace

TEST(damaged_operations_change_nothing_outside) {
  const int rounds = std::max(50, static_cast<int>(1'500 * check::scale()));
  TempDir place;
  const fs::path outside = place.path / "outside";
  for (const char* name : {"a", "b"}) fs::create_directories(outside / name);
  std::ofstream(outside / "f") << "kept";
  std::ofstream(place.path / "data") << std::string(200'000, 'd');
  const std::string before = look(outside);
  const Fd data(::open((place.path / "data").c_str(), O_RDONLY | O_CLOEXEC));
  int done = 0, refused = 0, impossible = 0;
  inBothWays([&] {
    for (int round = 0; round < rounds; round++) {
      check::Random random{static_cast<uint64_t>(round)};
      const fs::path tree = place.path / "tree";
      fs::create_directories(tree / "a/b");
      fs::create_symlink("../outside", tree / "link");
      fs::create_symlink("../../outside", tree / "a/up");
      LayerStreams streams;
      CHECK_EQ(streams.add(0, data.get()), 0);
      CHECK_EQ(streams.advance(0, 250'000), 0);
      streams.stop();
      const std::atomic<bool> stop{false};
      OpRunner runner(openDir(tree), random.below(2) ? Ownership::Entries : Ownership::Mine, streams, stop);
      for (int i = 0; i < 6; i++) {
        Bytes bytes = someOp(random);
        mutate(bytes, random);
        // An exact allocation, so that one byte too far is seen.
        const std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size()]);
        std::copy(bytes.begin(), bytes.end(), exact.get());
        OpReader reader(exact.get(), bytes.size());
        Op op;
        std::string step;
        while (!reader.atEnd()) {
          if (reader.next(op) != 0) {
            impossible++;
            break;
          }
          (runner.run(op, step) == 0 ? done : refused)++;
        }
      }
      runner.release();
      CHECK_EQ(look(outside), before);
      const std::atomic<bool> never{false};
      CHECK_EQ(removeTree(openDir(place.path).get(), "tree", never), 0);
    }
  });
  std::printf("%d done, %d refused, %d no operations\n", done, refused, impossible);
  CHECK(done > rounds / 3 && refused > rounds && impossible > rounds);
}

TEST(noise_is_no_operation) {
  const int rounds = static_cast<int>(20'000 * check::scale());
  for (int round = 0; round < rounds; round++) {
    check::Random random{static_cast<uint64_t>(round) + 77};
    const size_t size = 1 + random.below(80);
    const std::unique_ptr<uint8_t[]> noise(new uint8_t[size]);
    for (size_t i = 0; i < size; i++) noise[i] = static_cast<uint8_t>(random.below(4) ? random.below(8) : random.next());
    OpReader reader(noise.get(), size);
    Op op;
    while (!reader.atEnd() && reader.next(op) == 0) CHECK(op.path.empty() || isCleanPath(op.path));
  }
}

TEST(only_clean_paths) {
  for (const char* path : {"a", "a/b", "...", "..a/.b", "a/..."}) CHECK(isCleanPath(path));
  for (const char* path : {"", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/../b", "../a", "a/.."}) CHECK(!isCleanPath(path));
}

TEST(ways_through_links_and_mounts_are_closed) {
  TempDir place;
  fs::create_directories(place.path / "a/b");
  fs::create_directory_symlink("b", place.path / "a/link");
  std::ofstream(place.path / "a/file") << "";
  const Fd root = openDir(place.path);
  inBothWays([&] {
    for (const int flags : {O_PATH, O_RDONLY}) {
      CHECK(Fd(openDirectoryBeneath(root.get(), "", flags)).valid());
      CHECK(Fd(openDirectoryBeneath(root.get(), "a/b", flags)).valid());
      CHECK_EQ(openDirectoryBeneath(root.get(), "a/none/b", flags), -ENOENT);
      CHECK_EQ(openDirectoryBeneath(root.get(), "a/file", flags), -ENOTDIR);
      for (const char* path : {"a/link", "a/link/b"}) {
        const int err = openDirectoryBeneath(root.get(), path, flags);
        CHECK(err == -ELOOP || err == -ENOTDIR);
      }
      const Fd top = openDir("/");
      CHECK_EQ(openDirectoryBeneath(top.get(), "proc", flags), -EXDEV);
      CHECK_EQ(openDirectoryBeneath(top.get(), "proc/sys/fs", flags), -EXDEV);
    }
  });
}

TEST(deep_trees_are_made_and_removed) {
  rlimit few{};
  CHECK_EQ(::getrlimit(RLIMIT_NOFILE, &few), 0);
  few.rlim_cur = 200;
  CHECK_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  inBothWays([] {
    TempDir place;
    const Fd root = openDir(place.path);
    std::string path(100, 'x');
    CHECK_EQ(::mkdirat(root.get(), path.c_str(), 0700), 0);
    ParentCache parents(root.get());
    // Deeper than there may be file descriptors, and 20 times as long as PATH_MAX.
    for (int depth = 1; depth < 1100; depth++) {
      path += "/" + std::string(depth % 90 + 1, 'y');
      const int parent = parents.parentOf(path);
      CHECK(parent >= 0);
      CHECK_EQ(::mkdirat(parent, nameOf(path), 0700), 0);
      if (depth % 50 == 0) CHECK_EQ(::mkdirat(parent, ".peel-removed-0", 0700), 0);
      if (depth % 70 == 0) Fd(::openat(parent, ".peel-removed-1", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    }
    CHECK(path.size() > 10 * 4096);
    parents.forget(std::string(100, 'x'));
    const std::atomic<bool> stopped{true}, never{false};
    CHECK_EQ(removeTree(root.get(), std::string(100, 'x').c_str(), stopped), -ECANCELED);
    CHECK_EQ(removeTree(root.get(), std::string(100, 'x').c_str(), never), 0);
    CHECK(fs::is_empty(place.path));
  });
}

TEST(closing_ends_every_wait) {
  TempDir place;
  fs::create_directory(place.path / "tree");
  std::ofstream(place.path / "data") << "";
  const Fd data(::open((place.path / "data").c_str(), O_RDONLY | O_CLOEXEC));
  const int rounds = std::max(20, static_cast<int>(300 * check::scale()));
  for (int round = 0; round < rounds; round++) {
    check::Random random{static_cast<uint64_t>(round)};
    const fs::path dir = place.path / "tree" / std::to_string(round);
    fs::create_directory(dir);
    std::shared_ptr<TreeWriter> writer;
    CHECK_EQ(TreeWriter::open(dir.string(), Ownership::Mine, writer), 0);
    CHECK_EQ(writer->streams().add(0, data.get()), 0);
    Bytes ops;
    put(ops, uint8_t{2});
    putText(ops, "f");
    putAttributes(ops, random);
    put(ops, uint64_t{500'000});
    put(ops, uint32_t{0});
    put(ops, uint32_t{1});
    put(ops, uint64_t{0});
    put(ops, uint64_t{0});
    put(ops, uint64_t{round % 2 ? 500'000u : 5u});
    std::atomic<int> answers{0};
    writer->submit(std::move(ops));
    writer->finish([&](const TreeWriter::Failure& failure) {
      CHECK_EQ(failure.err, ECANCELED);
      answers++;
    });
    std::thread other([&] { writer->streams().advance(0, random.below(2)); });
    if (random.below(2)) std::this_thread::yield();
    writer->close();
    other.join();
    CHECK_EQ(answers.load(), 1);
    writer->finish([&](const TreeWriter::Failure& failure) { CHECK_EQ(failure.err, ECANCELED); });
    writer->close();
  }
}

TEST(names_in_messages) {
  CHECK_EQ(displayBytes("a/\xc3\xa4"), std::string("a/\xc3\xa4"));
  CHECK_EQ(displayBytes("\x1b[1m\x7f"), std::string("\\x1b[1m\\x7f"));
  for (const char* bad : {"\xc3", "\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80"}) {
    CHECK(displayBytes(bad).starts_with("\\x"));
  }
  CHECK_EQ(displayBytes(std::string(5000, 'a')).size(), 1027u);
}

TEST_MAIN
