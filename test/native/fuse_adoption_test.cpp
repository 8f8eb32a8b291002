// A connection that another process has begun: what the new one knows, what it asks the kernel for, and what it leaves.
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include <filesystem>

#include "fuse/blobs_server.hpp"
#include "fuse/reply.hpp"
#include "fuse_fixture.hpp"
#include "fuse_layer.hpp"

namespace {

// How many threads may still be started.
std::atomic<int> threadsLeft{1 << 30};

}  // namespace

// In the place of the library's, also for libstdc++.
extern "C" __attribute__((visibility("default"))) int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                                                     void* (*run)(void*), void* argument) {
  if (threadsLeft.fetch_sub(1) <= 0) return EAGAIN;
  static const auto next = reinterpret_cast<decltype(&pthread_create)>(::dlsym(RTLD_NEXT, "pthread_create"));
  return next(thread, attributes, run, argument);
}

using namespace fuse_fixture;
using Mode = BlobsServer::Mode;

namespace {

constexpr uint64_t kFlags = init_flag::kPassthrough | init_flag::kHasResend;
constexpr uint64_t kNode = 7;

struct World {
  Layer layer;
  std::string dir = makeDir();
  std::shared_ptr<BlobsServer> first = std::make_shared<BlobsServer>();
  std::shared_ptr<BlobsServer> second = std::make_shared<BlobsServer>();
  std::unique_ptr<Kernel> kernel;

  World() {
    first->skipTo(kNode);
    uint64_t node = 0;
    CHECK_EQ(first->add("a", layer.cache, false, node), 0);
    CHECK_EQ(node, kNode);
    CHECK_EQ(second->adopt("a", layer.cache, {kNode, Mode::Plain, 0}), 0);
    kernel = std::make_unique<Kernel>(nullptr, 1);
    kernel->serve(first, 3, {}, taken());
  }
  ~World() {
    kernel.reset();
    std::filesystem::remove_all(dir);
  }
  static std::string makeDir() {
    char path[] = "/tmp/peel-adoption-XXXXXX";
    CHECK(::mkdtemp(path) != nullptr);
    return path;
  }
  std::string taken() const { return dir + "/taken"; }

  std::vector<uint8_t> read(uint64_t unique, uint64_t offset, uint32_t size) {
    ReadIn in{};
    in.offset = offset;
    in.size = size;
    return kernel->request(Opcode::kRead, unique, kNode, in);
  }
  void waitForParked(size_t count) {
    for (int i = 0; i < 2000 && kernel->session->waiting() != count; ++i) ::usleep(1000);
    CHECK_EQ(kernel->session->waiting(), count);
  }
  void leave() {
    kernel->session->leave();
    kernel->session->join();
  }
};

bool isResend(const Answer& answer) {
  return answer.came && answer.header.unique == 0 && answer.header.error == kNotifyResend && answer.body.empty();
}

}  // namespace

TEST(what_is_left_unanswered_is_asked_for_again_and_answered_by_the_next) {
  World world;
  Kernel& kernel = *world.kernel;
  kernel.send(world.read(10, 100, 4096));
  world.waitForParked(1);
  world.leave();
  CHECK_EQ(kernel.reason(), std::string("left"));
  CHECK(kernel.isAsleep());
  // Nor does a span that comes later reach anybody.
  kernel.serve(world.second, 3, Adoption{kFlags, true}, world.taken());
  CHECK(world.second->canPassthrough());
  CHECK(kernel.isAsleep());
  kernel.session->start();
  CHECK(isResend(kernel.receive()));
  CHECK_EQ(kernel.session->agreed(), kFlags);
  kernel.send(world.read(kResendBit | 10, 100, 4096));
  world.waitForParked(1);
  world.layer.bring(0);
  const Answer answer = kernel.receive();
  CHECK_EQ(answer.header.unique, kResendBit | 10);
  CHECK(std::equal(answer.body.begin(), answer.body.end(), world.layer.bytes.begin() + 100));
  CHECK_EQ(answer.body.size(), 4096u);
  CHECK(kernel.isAsleep());
}

TEST(lookups_and_opens_are_answered_as_they_were_before) {
  World world;
  Kernel& kernel = *world.kernel;
  world.leave();
  kernel.serve(world.second, 2, Adoption{kFlags, true});
  kernel.session->start();
  CHECK(isResend(kernel.receive()));
  InHeader header{};
  header.len = sizeof header + 2;
  header.opcode = static_cast<uint32_t>(Opcode::kLookup);
  header.unique = kResendBit | 4;
  header.nodeid = kRootId;
  std::vector<uint8_t> lookup(header.len);
  std::memcpy(lookup.data(), &header, sizeof header);
  lookup[sizeof header] = 'a';
  const Answer found = kernel.call(lookup);
  CHECK_EQ(found.header.unique, kResendBit | 4);
  CHECK_EQ(found.as<EntryOut>().nodeid, kNode);
  const Answer opened = kernel.call(kernel.request(Opcode::kOpen, 6, kNode, OpenIn{}));
  CHECK_EQ(opened.as<OpenOut>().openFlags, kOpenKeepCache | kOpenNoFlush);
  // A blob that comes new has a node that the connection never had.
  uint64_t node = 0;
  CHECK_EQ(world.second->add("b", world.layer.cache, false, node), 0);
  CHECK_EQ(node, kNode + 1);
}

TEST(a_backing_id_of_a_process_that_is_gone_is_given_out_and_not_made_anew) {
  World world;
  Kernel& kernel = *world.kernel;
  world.leave();
  auto blobs = std::make_shared<BlobsServer>();
  CHECK_EQ(blobs->adopt("p", world.layer.cache, {9, Mode::Passthrough, 5}), 0);
  kernel.serve(blobs, 1, Adoption{kFlags, true});
  kernel.session->start();
  CHECK(isResend(kernel.receive()));
  const auto out = kernel.call(kernel.request(Opcode::kOpen, 6, 9, OpenIn{})).as<OpenOut>();
  CHECK_EQ(out.openFlags, kOpenPassthrough | kOpenNoFlush);
  CHECK_EQ(out.backingId, 5);
  BlobsServer::Known known{};
  CHECK_EQ(blobs->known("p", known), 0);
  CHECK(known.node == 9 && known.mode == Mode::Passthrough && known.backingId == 5);
}

TEST(what_cannot_have_been_is_not_adopted) {
  World world;
  const auto adopt = [&](const char* name, BlobsServer::Known known) {
    return world.second->adopt(name, world.layer.cache, known);
  };
  CHECK_EQ(adopt("a", {8, Mode::Plain, 0}), -EEXIST);
  CHECK_EQ(adopt("b", {kNode, Mode::Plain, 0}), -EEXIST);
  CHECK_EQ(adopt("c", {kRootId, Mode::Plain, 0}), -EINVAL);
  CHECK_EQ(adopt("d", {8, Mode::Passthrough, 0}), -EINVAL);
  CHECK_EQ(adopt("e", {8, Mode::Plain, 3}), -EINVAL);
  CHECK_EQ(adopt("f/", {8, Mode::Plain, 0}), -EINVAL);
  CHECK_EQ(adopt("b", {8, Mode::Undecided, 0}), 0);
}

TEST(a_kernel_that_cannot_send_again_gets_an_error_for_what_was_left) {
  World world;
  Kernel& kernel = *world.kernel;
  // As if the other process had died in them: taken, and not answered.
  for (const uint64_t unique : {20u, 22u, 40u}) kernel.send(world.read(unique, unique * 8192 / 20 % 40000, 512));
  world.waitForParked(3);
  world.leave();
  kernel.serve(world.second, 3, Adoption{kFlags, false}, world.taken());
  std::thread starting([&] { kernel.session->start(); });
  std::vector<uint64_t> failed;
  for (Answer answer = kernel.receive(); answer.came; answer = kernel.receive(200)) {
    CHECK_EQ(answer.header.error, -EIO);
    failed.push_back(answer.header.unique);
  }
  starting.join();
  // Every one up to the newest, and a few that may have been taken after it was noted.
  CHECK_EQ(failed.back(), 2u);
  CHECK(failed.front() > 40 && failed.front() < 10000);
  CHECK_EQ(failed.size(), failed.front() / 2);
  world.layer.bring(0);
  CHECK_EQ(kernel.call(world.read(50, 0, 512)).header.error, 0);
}

TEST(a_session_that_never_starts_ends_without_a_word) {
  World world;
  world.leave();
  world.kernel->serve(world.second, 3, Adoption{0, true});
  world.leave();
  CHECK_EQ(world.kernel->reason(), std::string("left"));
  CHECK(world.kernel->isAsleep());
}

TEST(fewer_threads_serve_as_well_and_none_is_said) {
  World world;
  Kernel& kernel = *world.kernel;
  world.leave();
  threadsLeft = 1;
  kernel.serve(world.second, 3, Adoption{kFlags, true}, world.taken());
  CHECK_EQ(kernel.session->start(), 0);
  CHECK(isResend(kernel.receive()));
  world.layer.bring(0);
  CHECK_EQ(kernel.call(world.read(10, 0, 512)).header.error, 0);
  world.leave();
  auto third = std::make_shared<BlobsServer>();
  CHECK_EQ(third->adopt("a", world.layer.cache, {kNode, Mode::Plain, 0}), 0);
  kernel.serve(third, 3, Adoption{kFlags, true}, world.taken());
  threadsLeft = 0;
  CHECK_EQ(kernel.session->start(), EAGAIN);
  CHECK(isResend(kernel.receive()));
  // The next process may have more luck.
  world.leave();
  CHECK_EQ(kernel.reason(), std::string("left"));
  kernel.serve(std::make_shared<BlobsServer>(), 3);
  CHECK(kernel.reason().starts_with("no thread can be started: "));
  threadsLeft = 1 << 30;
}

TEST(a_file_of_another_kind_is_no_record_of_requests) {
  World world;
  std::unique_ptr<TakenRequests> taken;
  CHECK_EQ(TakenRequests::open(world.dir, taken), -EISDIR);
  const std::string path = world.dir + "/other";
  FILE* file = ::fopen(path.c_str(), "w");
  CHECK(file != nullptr);
  ::fputs("text", file);
  ::fclose(file);
  CHECK_EQ(TakenRequests::open(path, taken), -EINVAL);
  std::filesystem::resize_file(path, 4096);
  CHECK_EQ(TakenRequests::open(path, taken), -EINVAL);
}

TEST_MAIN
