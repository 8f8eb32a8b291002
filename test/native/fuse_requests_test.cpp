// Every opcode as the bytes that the kernel sends: once good, once cut short.
#include <errno.h>

#include "erofs_fixture.hpp"
#include "fuse/tree_server.hpp"
#include "fuse_fixture.hpp"
#include "tree/image.hpp"

using namespace fuse_fixture;
namespace fixture = erofs_fixture;

namespace {

const std::vector<uint8_t> imageBytes = fixture::image();

/** The image without devices: what is asked of a layer stream is another test's. */
std::shared_ptr<Filesystem> treeOf(std::vector<uint8_t>& bytes) {
  bytes = imageBytes;
  bytes[peel::erofs::kSuperOffset + 86] = 0;
  std::unique_ptr<peel::erofs::Image> image;
  CHECK_EQ(peel::erofs::Image::attach(bytes.data(), bytes.size(), image), 0);
  std::shared_ptr<TreeServer> server;
  CHECK_EQ(TreeServer::create(std::move(image), {}, server), 0);
  return server;
}

constexpr uint64_t node(uint64_t nid) { return uint64_t{1} << 40 | nid; }

// Header columns: len, opcode, unique, nodeid, uid, gid, pid, extlen and padding.
const char* const kRest = "00000000 00000000 01000000 0000 0000";

struct Case {
  const char* name;
  std::string head;  // opcode, unique, nodeid; the length is put in front
  std::string args;
  int error;         // of the good request
  size_t body;       // bytes of its answer
  size_t least;      // bytes of arguments below which it is EPROTO; 0: it has none
};

const Case kCases[] = {
    {"lookup", "01000000 0200000000000000 0100000000000000", "66696c6500", 0, 128, 5},
    {"lookup of a name that is not there", "01000000 0400000000000000 0100000000000000", "6e6f00", 0, 128, 3},
    {"lookup in a file", "01000000 0600000000000000 5000000000010000", "6e6f00", ENOTDIR, 0, 3},
    {"lookup in a node of no image", "01000000 0800000000000000 5000000000020000", "6e6f00", ESTALE, 0, 3},
    // flags, padding, fh
    {"getattr", "03000000 0a00000000000000 5000000000010000", "00000000 00000000 0000000000000000", 0, 104, 16},
    {"readlink", "05000000 0c00000000000000 6000000000010000", "", 0, 6, 0},
    {"readlink of a file", "05000000 0e00000000000000 5000000000010000", "", EINVAL, 0, 0},
    // flags, open flags
    {"open", "0e000000 1000000000000000 5000000000010000", "00800000 00000000", ENOSYS, 0, 8},
    // fh, offset, size, read flags, lock owner, flags, padding
    {"read", "0f000000 1200000000000000 a000000000010000",
     "0000000000000000 6400000000000000 00100000 00000000 0000000000000000 00000000 00000000", 0, 500, 40},
    {"read past the end", "0f000000 1400000000000000 a000000000010000",
     "0000000000000000 5802000000000000 00100000 00000000 0000000000000000 00000000 00000000", 0, 0, 40},
    {"read of a directory", "0f000000 1600000000000000 0100000000000000",
     "0000000000000000 0000000000000000 00100000 00000000 0000000000000000 00000000 00000000", EINVAL, 0, 40},
    {"statfs", "11000000 1800000000000000 0100000000000000", "", 0, 80, 0},
    // fh, flags, release flags, lock owner
    {"release", "12000000 1a00000000000000 5000000000010000",
     "0000000000000000 00000000 00000000 0000000000000000", 0, 0, 0},
    // size, padding, name
    {"getxattr", "16000000 1c00000000000000 7000000000010000", "40000000 00000000 757365722e6100", 0, 5, 15},
    {"getxattr of the size", "16000000 1e00000000000000 7000000000010000", "00000000 00000000 757365722e6100", 0, 8, 15},
    {"getxattr into too little", "16000000 2000000000000000 7000000000010000", "02000000 00000000 757365722e6100",
     ERANGE, 0, 15},
    {"getxattr of none", "16000000 2200000000000000 7000000000010000", "02000000 00000000 757365722e6200", ENODATA, 0,
     15},
    {"listxattr", "17000000 2400000000000000 7000000000010000", "40000000 00000000", 0, 27, 8},
    {"listxattr of the size", "17000000 2600000000000000 7000000000010000", "00000000 00000000", 0, 8, 8},
    {"flush", "19000000 2800000000000000 5000000000010000",
     "0000000000000000 00000000 00000000 0000000000000000", ENOSYS, 0, 0},
    {"opendir", "1b000000 2a00000000000000 0100000000000000", "00000000 00000000", ENOSYS, 0, 0},
    // Eight names: 24 bytes and the name, to a multiple of 8.
    {"readdir", "1c000000 2c00000000000000 0100000000000000",
     "0000000000000000 0000000000000000 00100000 00000000 0000000000000000 00000000 00000000", 0, 256, 40},
    {"readdir of a file", "1c000000 2e00000000000000 5000000000010000",
     "0000000000000000 0000000000000000 00100000 00000000 0000000000000000 00000000 00000000", ENOTDIR, 0, 40},
    {"readdirplus", "2c000000 3000000000000000 0100000000000000",
     "0000000000000000 0000000000000000 00100000 00000000 0000000000000000 00000000 00000000", 0, 1280, 40},
    {"releasedir", "1d000000 3200000000000000 0100000000000000",
     "0000000000000000 00000000 00000000 0000000000000000", 0, 0, 0},
    {"access", "22000000 3400000000000000 0100000000000000", "04000000 00000000", ENOSYS, 0, 0},
    // fh, offset, whence, padding: SEEK_HOLE
    {"lseek", "2e000000 3600000000000000 a000000000010000",
     "0000000000000000 0002000000000000 04000000 00000000", 0, 8, 24},
    {"statx", "34000000 3800000000000000 0100000000000000", "00000000 00000000", ENOSYS, 0, 0},
    {"mkdir", "09000000 3a00000000000000 0100000000000000", "ed010000 12000000 6100", EROFS, 0, 0},
    {"write", "10000000 3c00000000000000 5000000000010000", "", EROFS, 0, 0},
    {"an opcode of the future", "e8030000 3e00000000000000 0100000000000000", "", ENOSYS, 0, 0},
};

std::vector<uint8_t> message(const Case& test, size_t cut) {
  std::vector<uint8_t> args = hex(test.args);
  if (cut < args.size()) args.resize(cut);
  std::vector<uint8_t> rest = hex(test.head + kRest);
  const auto length = static_cast<uint32_t>(4 + rest.size() + args.size());
  CHECK_EQ(4 + rest.size(), sizeof(InHeader));
  std::vector<uint8_t> out(4);
  std::memcpy(out.data(), &length, 4);
  out.insert(out.end(), rest.begin(), rest.end());
  out.insert(out.end(), args.begin(), args.end());
  return out;
}

}  // namespace

TEST(every_request_has_its_answer) {
  std::vector<uint8_t> bytes;
  Kernel kernel(treeOf(bytes));
  for (const Case& test : kCases) {
    const Answer answer = kernel.call(message(test, SIZE_MAX));
    if (answer.header.error != -test.error || answer.body.size() != test.body) {
      check::failed(__FILE__, __LINE__, std::string(test.name) + ": error " + std::to_string(answer.header.error) +
                                            ", " + std::to_string(answer.body.size()) + " bytes");
    }
  }
  CHECK(kernel.errors().empty());
}

TEST(every_truncated_request_is_a_protocol_error) {
  std::vector<uint8_t> bytes;
  Kernel kernel(treeOf(bytes));
  for (const Case& test : kCases) {
    for (size_t cut = 0; cut < test.least; ++cut) {
      const Answer answer = kernel.call(message(test, cut));
      if (answer.header.error != -EPROTO) {
        check::failed(__FILE__, __LINE__, std::string(test.name) + " with " + std::to_string(cut) + " bytes: error " +
                                              std::to_string(answer.header.error));
      }
    }
  }
}

TEST(init_agrees_on_what_both_sides_have) {
  std::vector<uint8_t> bytes;
  Kernel kernel(treeOf(bytes));
  const Answer answer = kernel.call(hex(
      "68000000 1a000000 0200000000000000 0000000000000000 00000000 00000000 00000000 0000 0000"
      // major 7, minor 45, read-ahead 128 KiB, all flags, all flags2
      "07000000 2d000000 00000200 ffffffff ffffffff"
      "00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000"));
  const auto out = answer.as<InitOut>();
  CHECK_EQ(out.major, 7u);
  CHECK_EQ(out.minor, 41u);
  CHECK_EQ(out.maxReadahead, 0x20000u);
  CHECK_EQ(out.maxBackground, 65535);
  CHECK_EQ(out.maxWrite, 4096u);
  CHECK_EQ(out.maxPages, 256);
  // No passthrough for a tree, and no READDIRPLUS_AUTO, ASYNC_DIO or WRITEBACK_CACHE.
  CHECK_EQ(out.maxStackDepth, 0u);
  CHECK_EQ(out.flags & (1u << 14 | 1u << 15 | 1u << 16), 0u);
  CHECK((out.flags & (1u << 13)) != 0);
  CHECK((out.flags & (1u << 17)) != 0);
}

TEST(init_of_old_and_future_kernels) {
  std::vector<uint8_t> bytes;
  Kernel kernel(treeOf(bytes));
  const std::string head = "1a000000 0200000000000000 0000000000000000 00000000 00000000 00000000 0000 0000";
  // Sixteen bytes, as before 7.36; flags2 is not there.
  Answer answer = kernel.call(hex("38000000" + head + "07000000 1f000000 00000200 ffffffff"));
  CHECK_EQ(answer.as<InitOut>().minor, 31u);
  CHECK_EQ(answer.as<InitOut>().flags2, 0u);
  // Another major version: ours is named, the kernel asks again.
  answer = kernel.call(hex("38000000" + head + "08000000 00000000 00000000 00000000"));
  CHECK_EQ(answer.as<InitOut>().major, 7u);
  answer = kernel.call(hex("38000000" + head + "07000000 0c000000 00000000 00000000"));
  CHECK_EQ(answer.header.error, -EPROTO);
  answer = kernel.call(hex("34000000" + head + "07000000 1f000000 00000200"));
  CHECK_EQ(answer.header.error, -EPROTO);
}

TEST(what_expects_no_answer_gets_none) {
  std::vector<uint8_t> bytes;
  Kernel kernel(treeOf(bytes));
  const std::string rest = "00000000 00000000 00000000 0000 0000";
  kernel.send(hex("30000000 02000000 0200000000000000 5000000000010000" + rest + "0100000000000000"));
  kernel.send(hex("40000000 2a000000 0400000000000000 0000000000000000" + rest +
                  "01000000 00000000 5000000000010000 0100000000000000"));
  kernel.send(hex("28000000 02000000 0600000000000000 5000000000010000" + rest));
  CHECK(!kernel.receive(50).came);
}

TEST(an_interrupt_of_what_is_not_waiting_is_sent_again) {
  std::vector<uint8_t> bytes;
  Kernel kernel(treeOf(bytes));
  const std::string head = "24000000 0300000000000000 0000000000000000 00000000 00000000 00000000 0000 0000";
  const Answer answer = kernel.call(hex("30000000" + head + "0200000000000000"));
  CHECK_EQ(answer.header.error, -EAGAIN);
  CHECK_EQ(answer.header.unique, 3u);
  kernel.send(hex("2c000000" + head + "02000000"));
  CHECK(!kernel.receive(50).came);
}

TEST(destroy_ends_the_session) {
  std::vector<uint8_t> bytes;
  Kernel kernel(treeOf(bytes), 4);
  const Answer answer = kernel.call(
      hex("28000000 26000000 0200000000000000 0000000000000000 00000000 00000000 00000000 0000 0000"));
  CHECK_EQ(answer.header.error, 0);
  kernel.session->join();
  CHECK(kernel.reason() == "unmounted");
}

TEST(a_message_of_the_wrong_length_ends_the_session) {
  for (const char* text : {"28000000", "29000000 26000000 0200000000000000 0000000000000000 00000000 00000000 00000000 "
                                       "0000 0000"}) {
    std::vector<uint8_t> bytes;
    Kernel kernel(treeOf(bytes), 4);
    kernel.send(hex(text));
    kernel.session->join();
    CHECK(kernel.reason() == "message of the wrong length");
  }
}

TEST(the_end_of_the_connection_ends_the_session) {
  std::vector<uint8_t> bytes;
  Kernel kernel(treeOf(bytes), 4);
  kernel.hangUp();
  kernel.session->join();
  CHECK(kernel.reason() == "unmounted");
}

TEST(stop_ends_threads_that_wait_for_requests) {
  for (int i = 0; i < 50; ++i) {
    std::vector<uint8_t> bytes;
    Kernel kernel(treeOf(bytes), 4);
    kernel.session->stop();
    kernel.session->join();
    CHECK(kernel.reason() == "stopped");
  }
}

TEST(random_messages_do_no_harm) {
  std::vector<uint8_t> bytes;
  Kernel kernel(treeOf(bytes), 2);
  check::Random random{7};
  const auto rounds = static_cast<size_t>(20000 * check::scale()) + 100;
  for (size_t round = 0; round < rounds; ++round) {
    const Case& test = kCases[random.below(std::size(kCases))];
    std::vector<uint8_t> request = message(test, SIZE_MAX);
    for (uint64_t changes = random.below(4); changes > 0; --changes) {
      // Not the length, which ends the session, and not the opcode, which might be DESTROY.
      request[8 + random.below(request.size() - 8)] = static_cast<uint8_t>(random.next());
    }
    CHECK(kernel.call(request).came);
  }
}

TEST_MAIN
