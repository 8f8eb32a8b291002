#pragma once
#include <condition_variable>
#include <mutex>

#include "gzip/stream_indexer.hpp"
#include "gzip_fixture.hpp"

// Whole blobs through a StreamIndexer.
namespace fixture {

using peel::StreamIndexer;

struct Waited {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  void set() {
    std::lock_guard lock(mutex);
    done = true;
    changed.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return done; });
  }
};

inline StreamIndexer::Pulled pull(StreamIndexer& indexer, const std::shared_ptr<StreamIndexer::Chunk>& chunk) {
  Waited waited;
  StreamIndexer::Pulled answer;
  indexer.pull(chunk, [&](const StreamIndexer::Pulled& pulled) {
    answer = pulled;
    waited.set();
  });
  waited.wait();
  return answer;
}

inline StreamIndexer::Index finish(StreamIndexer& indexer) {
  Waited waited;
  StreamIndexer::Index answer;
  indexer.finish([&](const StreamIndexer::Index& index) {
    answer = index;
    waited.set();
  });
  waited.wait();
  return answer;
}

// The whole blob through an indexer; the stream as it was handed out.
inline StreamIndexer::Index run(StreamIndexer& indexer, const Bytes& blob, size_t feed, size_t room, Bytes& stream) {
  std::vector<std::shared_ptr<StreamIndexer::Chunk>> chunks;
  for (int i = 0; i < 3; i++) chunks.push_back(std::make_shared<StreamIndexer::Chunk>(room));
  size_t turn = 0;
  for (size_t at = 0; at < blob.size(); at += feed) {
    const size_t end = std::min(blob.size(), at + feed);
    indexer.push(blob.data() + at, end - at);
    for (bool more = true; more; turn++) {
      const auto pulled = pull(indexer, chunks[turn % 3]);
      if (pulled.failure != StreamIndexer::Failure::None) {
        StreamIndexer::Index index;
        index.failure = pulled.failure;
        index.err = pulled.err;
        return index;
      }
      const uint8_t* bytes = chunks[turn % 3]->bytes.get();
      stream.insert(stream.end(), bytes, bytes + pulled.length);
      more = pulled.more;
    }
  }
  return finish(indexer);
}

}  // namespace fixture
