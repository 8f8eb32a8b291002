// READs that wait for spans: who answers them, when, and that it happens once.
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <set>
#include <thread>

#include "fuse/blobs_server.hpp"
#include "fuse_fixture.hpp"
#include "fuse_layer.hpp"

using namespace fuse_fixture;

namespace {

struct Bench {
  Layer layer;
  std::shared_ptr<BlobsServer> blobs = std::make_shared<BlobsServer>();
  std::unique_ptr<Kernel> kernel;
  Bench() {
    uint64_t node = 0;
    CHECK_EQ(blobs->add("a", layer.cache, false, node), 0);
    CHECK_EQ(node, 2u);
    kernel = std::make_unique<Kernel>(blobs, 3);
  }
  std::vector<uint8_t> read(uint64_t unique, uint64_t offset, uint32_t size) {
    ReadIn in{};
    in.offset = offset;
    in.size = size;
    return kernel->request(Opcode::kRead, unique, 2, in);
  }
  bool right(const Answer& answer, uint64_t offset, uint64_t size) {
    std::vector<uint8_t> expected(size);
    for (uint64_t i = 0; i < size && offset + i < kStream; ++i) expected[i] = layer.bytes[offset + i];
    return answer.came && answer.header.error == 0 && answer.body == expected;
  }
  void waitForParked(size_t count) {
    for (int i = 0; i < 2000 && kernel->session->waiting() != count; ++i) ::usleep(1000);
    CHECK_EQ(kernel->session->waiting(), count);
  }
};

}  // namespace

TEST(a_read_waits_for_its_span_and_only_for_it) {
  Bench bench;
  bench.kernel->send(bench.read(2, 100, 4096));
  bench.waitForParked(1);
  CHECK((bench.layer.asked() == std::vector<uint32_t>{0}));
  bench.layer.bring(1);
  CHECK(!bench.kernel->receive(30).came);
  bench.layer.bring(0);
  CHECK(bench.right(bench.kernel->receive(), 100, 4096));
  bench.waitForParked(0);
  CHECK(bench.right(bench.kernel->call(bench.read(4, 8000, 4096)), 8000, 4096));
}

TEST(a_read_over_many_spans_comes_when_the_last_one_is_there) {
  Bench bench;
  bench.kernel->send(bench.read(2, 0, 4 * kSpan));
  bench.waitForParked(1);
  CHECK_EQ(bench.layer.asked().size(), 4u);
  for (const uint32_t span : {2u, 0u, 3u}) bench.layer.bring(span);
  CHECK(!bench.kernel->receive(30).came);
  bench.layer.bring(1);
  CHECK(bench.right(bench.kernel->receive(), 0, 4 * kSpan));
}

TEST(a_read_of_a_file_that_was_cut_waits_for_the_bytes) {
  Bench bench;
  for (uint32_t span = 0; span < 11; span++) bench.layer.bring(span);
  CHECK_EQ(::ftruncate(bench.layer.cache->dataFd(), 3 * kSpan + 5), 0);
  CHECK(bench.right(bench.kernel->call(bench.read(2, kSpan, 4096)), kSpan, 4096));
  bench.kernel->send(bench.read(4, 3 * kSpan, 4096));
  bench.waitForParked(1);
  CHECK((bench.layer.asked() == std::vector<uint32_t>{3}));
  bench.layer.bring(3);
  CHECK(bench.right(bench.kernel->receive(), 3 * kSpan, 4096));
  const uint64_t from = 10 * kSpan;
  bench.kernel->send(bench.read(6, from, 4096));
  bench.waitForParked(1);
  bench.layer.bring(10);
  CHECK(bench.right(bench.kernel->receive(), from, 512));
  CHECK_EQ(bench.kernel->session->stats().errors.load(), 0u);
}

TEST(the_end_of_the_stream_is_padded_with_zeros) {
  Bench bench;
  bench.layer.bring(10);
  const uint64_t from = 10 * kSpan;
  CHECK(bench.right(bench.kernel->call(bench.read(2, from, 4096)), from, 512));
  CHECK(bench.right(bench.kernel->call(bench.read(4, from + 200, 4096)), from + 200, 312));
  CHECK(bench.right(bench.kernel->call(bench.read(6, from + 512, 4096)), from + 512, 0));
  CHECK(bench.right(bench.kernel->call(bench.read(8, UINT64_MAX, 4096)), from + 512, 0));
}

TEST(a_failed_span_answers_its_error_and_is_asked_for_again) {
  Bench bench;
  bench.kernel->send(bench.read(2, 0, 512));
  bench.waitForParked(1);
  bench.layer.cache->fail(0, EIO);
  CHECK_EQ(bench.kernel->receive().header.error, -EIO);
  CHECK_EQ(bench.kernel->session->stats().errors.load(), 1u);
  CHECK_EQ(bench.kernel->errors().size(), 1u);
  bench.kernel->send(bench.read(4, 0, 512));
  bench.waitForParked(1);
  bench.layer.bring(0);
  CHECK(bench.right(bench.kernel->receive(), 0, 512));
}

TEST(an_interrupt_without_a_kill_leaves_the_read_waiting) {
  Bench bench;
  bench.kernel->send(bench.read(2, 0, 512));
  bench.waitForParked(1);
  bench.kernel->send(bench.kernel->request(Opcode::kInterrupt, 3, 0, InterruptIn{2}));
  CHECK(!bench.kernel->receive(50).came);
  bench.layer.bring(0);
  CHECK(bench.right(bench.kernel->receive(), 0, 512));
}

TEST(stopping_answers_what_waits) {
  for (int i = 0; i < 20; ++i) {
    Bench bench;
    for (uint64_t n = 0; n < 8; ++n) bench.kernel->send(bench.read(2 + 2 * n, n * kSpan, 512));
    bench.waitForParked(8);
    bench.kernel->session->stop();
    std::thread decoder([&] { bench.layer.bring(static_cast<uint32_t>(i % 8)); });
    bench.kernel->session->join();
    decoder.join();
    std::set<uint64_t> answered;
    for (uint64_t n = 0; n < 8; ++n) {
      const Answer answer = bench.kernel->receive();
      CHECK(answer.came);
      CHECK(answer.header.error == 0 || answer.header.error == -ENOTCONN);
      answered.insert(answer.header.unique);
    }
    CHECK_EQ(answered.size(), 8u);
    // What comes too late finds nobody, and touches nothing.
    for (uint32_t span = 0; span < 8; ++span) bench.layer.bring(span);
  }
}

TEST(a_closed_cache_answers_eio) {
  Bench bench;
  bench.kernel->send(bench.read(2, 0, 512));
  bench.waitForParked(1);
  bench.layer.cache->shutdown();
  CHECK_EQ(bench.kernel->receive().header.error, -EIO);
  CHECK_EQ(bench.kernel->call(bench.read(4, 0, 512)).header.error, -EIO);
}

TEST(a_removed_blob_lets_go_of_its_layer_once_the_reads_under_way_are_done) {
  Bench bench;
  std::weak_ptr<LayerCache> held;
  {
    Layer other;
    held = other.cache;
    uint64_t node = 0;
    CHECK_EQ(bench.blobs->add("b", other.cache, false, node), 0);
    ReadIn in{};
    in.size = 512;
    bench.kernel->send(bench.kernel->request(Opcode::kRead, 2, 3, in));
    bench.waitForParked(1);
    CHECK_EQ(bench.kernel->session->withDevice([&](int fd) { return bench.blobs->remove(fd, "b"); }), 0);
    other.bring(0);
    const Answer answer = bench.kernel->receive();
    CHECK_EQ(answer.header.error, 0);
    CHECK(std::equal(answer.body.begin(), answer.body.end(), other.bytes.begin()));
    for (int i = 0; i < 2000 && other.cache.use_count() != 1; ++i) ::usleep(1000);
    CHECK_EQ(other.cache.use_count(), 1);
    CHECK_EQ(bench.kernel->call(bench.kernel->request(Opcode::kRead, 4, 3, in)).header.error, -ESTALE);
    CHECK_EQ(bench.kernel->call(bench.kernel->request(Opcode::kOpen, 6, 3, OpenIn{})).header.error, -ESTALE);
    CHECK_EQ(bench.blobs->add("b", other.cache, false, node), -EEXIST);
  }
  CHECK(held.expired());
  const std::array<char, 2> name{'b', 0};
  CHECK_EQ(bench.kernel->call(bench.kernel->request(Opcode::kLookup, 8, 1, name)).header.error, -ENOENT);
  CHECK_EQ(bench.blobs->remove(-1, "b"), -ENOENT);
  CHECK_EQ(bench.blobs->remove(-1, "c"), -ENOENT);
  // Its neighbours do not notice.
  bench.layer.bring(0);
  CHECK(bench.right(bench.kernel->call(bench.read(10, 0, 512)), 0, 512));
}

TEST(every_read_is_answered_once_under_load) {
  const int rounds = static_cast<int>(20 * check::scale()) + 1;
  for (int round = 0; round < rounds; ++round) {
    Bench bench;
    constexpr uint64_t kReads = 300;
    std::atomic<bool> done{false};
    check::Random random{static_cast<uint64_t>(round)};
    std::thread decoder([&] {
      check::Random order{static_cast<uint64_t>(round) + 1};
      while (!done.load()) {
        const auto span = static_cast<uint32_t>(order.below(11));
        if (order.below(3) == 0) {
          LayerCache::Evicted evicted;
          CHECK_EQ(bench.layer.cache->evict({span, (span + 1) % 11}, evicted), 0);
        } else if (order.below(3) == 0) bench.layer.cache->fail(span, EIO);
        else bench.layer.bring(span);
        ::usleep(100);
      }
    });
    std::set<uint64_t> answered;
    std::vector<uint64_t> offsets;
    for (uint64_t n = 0; n < kReads; ++n) {
      offsets.push_back(random.below(kStream));
      bench.kernel->send(bench.read(2 + 2 * n, offsets.back(), static_cast<uint32_t>(1 + random.below(3 * kSpan))));
      if (random.below(4) == 0) bench.kernel->send(bench.kernel->request(Opcode::kInterrupt, 3 + 2 * n, 0, InterruptIn{2 + 2 * n}));
      while (n + 1 - answered.size() > 20) {
        const Answer answer = bench.kernel->receive();
        CHECK(answer.came);
        if (answer.header.unique & 1) continue;
        CHECK(answered.insert(answer.header.unique).second);
        if (answer.header.error == 0) CHECK(bench.right(answer, offsets[answer.header.unique / 2 - 1], answer.body.size()));
      }
    }
    while (answered.size() < kReads) {
      const Answer answer = bench.kernel->receive();
      CHECK(answer.came);
      if (!(answer.header.unique & 1)) CHECK(answered.insert(answer.header.unique).second);
    }
    done = true;
    decoder.join();
    bench.kernel->session->stop();
    bench.kernel->session->join();
    for (Answer late = bench.kernel->receive(10); late.came; late = bench.kernel->receive(10)) {
      CHECK((late.header.unique & 1) != 0);
    }
  }
}

TEST_MAIN
