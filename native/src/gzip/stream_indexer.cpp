#include "gzip/stream_indexer.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cstring>

#include "sys/file_io.hpp"

namespace peel {

StreamIndexer::StreamIndexer(const Options& options)
    : options_(options), scan_(options.spanSize, inflateBackend(), options.fineSpanSize) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  inflater_ = std::thread([this] { inflateLoop(); });
  hasher_ = std::thread([this] { hashLoop(); });
  pthread_setname_np(inflater_.native_handle(), "peel-inflate");
  pthread_setname_np(hasher_.native_handle(), "peel-hash");
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

StreamIndexer::~StreamIndexer() { close(); }

void StreamIndexer::close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
  windows_.close();
  if (inflater_.joinable()) inflater_.join();
  if (hasher_.joinable()) hasher_.join();
}

void StreamIndexer::push(const uint8_t* bytes, size_t length) {
  auto shared = SpareBlobs::copy(spares_, bytes, length);
  std::lock_guard lock(mutex_);
  asks_.push_back([this, shared] {
    blobBase_ += blob_ ? blob_->size() : 0;
    blob_ = shared;
    used_ = 0;
    scan_.feed(blob_->data(), blob_->size());
  });
  changed_.notify_all();
}

void StreamIndexer::pull(std::shared_ptr<Chunk> chunk, std::function<void(const Pulled&)> done) {
  std::lock_guard lock(mutex_);
  asks_.push_back([this, chunk = std::move(chunk), done = std::move(done)] { done(fill(chunk)); });
  changed_.notify_all();
}

void StreamIndexer::finish(std::function<void(const Index&)> done) {
  std::lock_guard lock(mutex_);
  asks_.push_back([this, done = std::move(done)] { done(seal()); });
  changed_.notify_all();
}

void StreamIndexer::inflateLoop() {
  for (;;) {
    std::function<void()> ask;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return closed_ || !asks_.empty(); });
      if (asks_.empty()) return;
      ask = std::move(asks_.front());
      asks_.pop_front();
    }
    ask();
  }
}

StreamIndexer::Pulled StreamIndexer::fill(const std::shared_ptr<Chunk>& chunk) {
  if (!blob_) return {};
  HashJob job;
  job.blob = blob_;
  job.from = used_;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || !chunk->busy; });
    if (closed_) return {0, false, Failure::Closed, 0};
    if (diskError_) return {0, false, Failure::Disk, diskError_};
    if (failure_ != Failure::None) return {0, false, failure_, 0};
    chunk->busy = true;
  }
  Pulled pulled = options_.format == Format::Gzip ? fillGzip(*chunk, job) : fillStored(*chunk, job);
  failure_ = pulled.failure;
  job.to = used_;
  job.chunk = chunk;
  job.length = pulled.length;
  job.offset = streamOffset_;
  streamOffset_ += pulled.length;
  {
    std::lock_guard lock(mutex_);
    hashJobs_.push_back(std::move(job));
  }
  changed_.notify_all();
  return pulled;
}

StreamIndexer::Pulled StreamIndexer::fillGzip(Chunk& chunk, HashJob& job) {
  Pulled pulled;
  const size_t known = scan_.checkpoints().size();
  const ScanStatus status = scan_.run(chunk.bytes.get(), chunk.size, pulled.length);
  used_ = static_cast<size_t>(scan_.consumed() - blobBase_);
  for (size_t i = known; i < scan_.checkpoints().size(); i++) {
    const Checkpoint& checkpoint = scan_.checkpoints()[i];
    job.cuts.push_back({static_cast<size_t>(checkpoint.in - blobBase_), checkpoint.bits});
  }
  takeFine(job);
  pulled.more = status == ScanStatus::OutputFull;
  if (status == ScanStatus::BadData) pulled.failure = Failure::BadData;
  if (status == ScanStatus::TrailingGarbage) pulled.failure = Failure::TrailingGarbage;
  return pulled;
}

void StreamIndexer::takeFine(HashJob& job) {
  if (options_.fineSpanSize == 0) return;
  size_t at = job.from;
  for (FineCheckpoint& checkpoint : scan_.takeFine()) {
    const size_t cut = static_cast<size_t>(checkpoint.at.in - blobBase_);
    job.fineCuts.push_back({cut, checkpoint.at.bits});
    fine_.push_back(checkpoint.at);
    windows_.feed(blob_->data() + at, cut - at);
    windows_.begin(std::move(checkpoint));
    at = cut;
  }
  windows_.feed(blob_->data() + at, used_ - at);
  windows_.passed(scan_.produced());
}

StreamIndexer::Pulled StreamIndexer::fillStored(Chunk& chunk, HashJob& job) {
  Pulled pulled;
  pulled.length = std::min(chunk.size, blob_->size() - used_);
  if (pulled.length > 0) std::memcpy(chunk.bytes.get(), blob_->data() + used_, pulled.length);
  used_ += pulled.length;
  cutStored(stored_, options_.spanSize, job.cuts);
  if (options_.fineSpanSize > 0) cutStored(fine_, options_.fineSpanSize, job.fineCuts);
  pulled.more = used_ < blob_->size();
  return pulled;
}

void StreamIndexer::cutStored(std::vector<Checkpoint>& points, uint64_t spanSize, std::vector<Cut>& cuts) {
  const uint64_t end = blobBase_ + used_;
  while (points.empty() ? end > 0 : end - points.back().out > spanSize) {
    const uint64_t at = points.empty() ? 0 : points.back().out + spanSize;
    points.push_back({at, at, 0});
    cuts.push_back({static_cast<size_t>(at - blobBase_), 0});
  }
}

void StreamIndexer::hashLoop() {
  for (;;) {
    HashJob job;
    bool diskFailed;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return closed_ || !hashJobs_.empty(); });
      if (closed_) return;
      job = std::move(hashJobs_.front());
      hashJobs_.pop_front();
      hashing_ = true;
      diskFailed = diskError_ != 0;
    }
    hash(job);
    int err = 0;
    if (options_.dataFd >= 0 && !diskFailed) {
      err = writeFully(options_.dataFd, job.chunk->bytes.get(), job.length, job.offset);
      if (!err) written_.store(job.offset + job.length, std::memory_order_release);
    }
    {
      std::lock_guard lock(mutex_);
      if (err && !diskError_) diskError_ = -err;
      job.chunk->busy = false;
      hashing_ = false;
    }
    changed_.notify_all();
  }
}

void StreamIndexer::hash(const HashJob& job) {
  const uint8_t* blob = job.blob->data();
  blobHash_.update(blob + job.from, job.to - job.from);
  const auto hashSpans = [&](SpanHasher& hash, const std::vector<Cut>& cuts) {
    size_t at = job.from;
    for (const Cut& cut : cuts) {
      hash.feed(blob + at, cut.at - at);
      hash.cut(cut.bits);
      at = cut.at;
    }
    hash.feed(blob + at, job.to - at);
  };
  hashSpans(spanHash_, job.cuts);
  if (options_.fineSpanSize > 0) hashSpans(fineHash_, job.fineCuts);
  if (options_.format == Format::Gzip) streamHash_.update(job.chunk->bytes.get(), job.length);
}

StreamIndexer::Index StreamIndexer::seal() {
  Index index;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || (hashJobs_.empty() && !hashing_); });
    if (closed_) index.failure = Failure::Closed;
    else if (diskError_) index.failure = Failure::Disk;
    else if (failure_ != Failure::None) index.failure = failure_;
    else if (options_.format == Format::Gzip && !scan_.atEnd()) index.failure = Failure::Truncated;
    index.err = diskError_;
    if (index.failure != Failure::None) return index;
  }
  index.blobSize = blobBase_ + used_;
  index.streamSize = streamOffset_;
  index.blobSha256 = blobHash_.finish();
  if (options_.format == Format::Gzip) {
    index.streamSha256 = streamHash_.finish();
    index.checkpoints = scan_.checkpoints();
    for (size_t i = 0; i < index.checkpoints.size(); i++) index.windows.push_back(scan_.window(i));
  } else {
    index.streamSha256 = index.blobSha256;
    if (index.blobSize == 0) {
      stored_.push_back({});
      spanHash_.cut(0);
    }
    index.checkpoints = stored_;
  }
  spanHash_.finish();
  index.spanSha256 = spanHash_.digests();
  if (options_.fineSpanSize > 0) {
    index.fine = sealFine();
    if (!index.fine) index.failure = Failure::Closed;
  }
  return index;
}

// Null when closed.
std::shared_ptr<const StreamIndexer::Fine> StreamIndexer::sealFine() {
  auto fine = std::make_shared<Fine>();
  if (fine_.empty()) {
    fine_.push_back({});
    fineHash_.cut(0);
  }
  fineHash_.finish();
  fine->checkpoints = std::move(fine_);
  fine->spanSha256 = fineHash_.digests();
  fine->frames = windows_.finish();
  // Stored spans need no windows.
  if (options_.format == Format::Stored) fine->frames.resize(fine->checkpoints.size());
  return fine->frames.size() == fine->checkpoints.size() ? fine : nullptr;
}

}  // namespace peel
