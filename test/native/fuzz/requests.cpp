// What a kernel would never send: any number of messages of any bytes. The session answers each, or ends, and goes on to answer a good one.
#include "erofs_fixture.hpp"
#include "fuse/tree_server.hpp"
#include "fuse_fixture.hpp"
#include "fuzz/target.hpp"
#include "tree/image.hpp"

using namespace fuse_fixture;

namespace {

constexpr uint64_t kLast = 0x7fff'ffff'ffff'fffeU;
constexpr size_t kMostMessage = 8192;
// All that may be on their way at once, so that neither side waits for the other to read.
constexpr int kMostMessages = 8;

std::shared_ptr<Filesystem> tree() {
  static std::vector<uint8_t> bytes = [] {
    std::vector<uint8_t> image = erofs_fixture::image();
    image[peel::erofs::kSuperOffset + 86] = 0;
    return image;
  }();
  std::unique_ptr<peel::erofs::Image> image;
  CHECK_EQ(peel::erofs::Image::attach(bytes.data(), bytes.size(), image), 0);
  std::shared_ptr<TreeServer> server;
  CHECK_EQ(TreeServer::create(std::move(image), {}, server), 0);
  return server;
}

fuzz::Bytes messageOf(Opcode opcode, uint64_t node, const std::string& args) {
  const std::vector<uint8_t> rest = hex(args);
  InHeader header{};
  header.len = static_cast<uint32_t>(sizeof header + rest.size());
  header.opcode = static_cast<uint32_t>(opcode);
  header.unique = 2;
  header.nodeid = node;
  return fuzz::Writer().number(static_cast<uint16_t>(header.len)).number(header).bytes(rest).out;
}

}  // namespace

std::vector<fuzz::Bytes> fuzz::seeds() {
  const std::string reading = "0000000000000000 0000000000000000 00100000 00000000 0000000000000000 00000000 00000000";
  const uint64_t file = uint64_t{1} << 40 | 0xa0;
  const uint64_t withAttributes = uint64_t{1} << 40 | 0x70;
  std::vector<Bytes> seeds = {
      messageOf(Opcode::kInit, 0, "07000000 1f000000 00000200 ffffffff"),
      messageOf(Opcode::kLookup, 1, "66696c6500"),
      messageOf(Opcode::kGetattr, 1, "00000000 00000000 0000000000000000"),
      messageOf(Opcode::kRead, file, reading),
      messageOf(Opcode::kReaddir, 1, reading),
      messageOf(Opcode::kReaddirplus, 1, reading),
      messageOf(Opcode::kGetxattr, withAttributes, "40000000 00000000 757365722e6100"),
      messageOf(Opcode::kListxattr, withAttributes, "40000000 00000000"),
      messageOf(Opcode::kLseek, file, "0000000000000000 0002000000000000 04000000 00000000"),
      messageOf(Opcode::kInterrupt, 0, "0200000000000000"),
      messageOf(Opcode::kBatchForget, 0, "01000000 00000000 0100000000000000 0100000000000000"),
      messageOf(Opcode::kReadlink, uint64_t{1} << 40 | 0x60, ""),
      messageOf(Opcode::kStatfs, 1, ""),
      messageOf(Opcode::kDestroy, 0, ""),
  };
  Writer all;
  for (const Bytes& seed : seeds) all.bytes(seed);
  seeds.push_back(all.out);
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  fuzz::Reader from(bytes, size);
  // One thread: it answers in order, so that the answer to the last message comes after all others.
  Kernel kernel(tree(), 1);
  kernel.letGo();
  int sent = 0;
  for (; sent < kMostMessages && from.left() > 0; sent++) {
    const fuzz::Bytes message = from.bytes(1 + from.number<uint16_t>() % kMostMessage);
    if (message.empty() || !kernel.trySend(message)) break;
  }
  InHeader last{};
  last.len = sizeof last;
  last.opcode = static_cast<uint32_t>(Opcode::kStatfs);
  last.unique = kLast;
  last.nodeid = 1;
  if (!kernel.trySend(fuzz::Writer().number(last).out)) return 0;
  for (int answers = 0;; answers++) {
    const Answer answer = kernel.receive();
    // The end of a session that got nonsense, or was told to end.
    if (!answer.came) {
      CHECK(kernel.hasEnded());
      return 0;
    }
    CHECK(answers <= sent);
    CHECK(answer.header.error <= 0 && answer.header.error > -4096);
    if (answer.header.unique == kLast) return 0;
  }
}
