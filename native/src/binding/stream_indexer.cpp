#include "binding/stream_indexer.hpp"

#include <cstring>

#include "binding/args.hpp"
#include "binding/errors.hpp"
#include "binding/handle.hpp"
#include "binding/question.hpp"
#include "gzip/stream_indexer.hpp"

namespace peel {
namespace {

constexpr napi_type_tag kTag = {0x7065656c53747265u, 0x616d496478720001u};
using IndexerHandle = Handle<StreamIndexer>;

constexpr napi_type_tag kChunkTag = {0x7065656c4368756eu, 0x6b42797465730001u};
using ChunkHandle = Handle<StreamIndexer::Chunk>;

// Windows of checkpoints that follow closer would pile up until each has its 32 KiB of stream behind it.
constexpr uint64_t kLeastFineSpan = 4096;

Napi::Error failureError(Napi::Env env, StreamIndexer::Failure failure, int err) {
  switch (failure) {
    case StreamIndexer::Failure::BadData: return codedError(env, "ERR_INDEX_INFLATE", "the blob is not gzip, or damaged");
    case StreamIndexer::Failure::TrailingGarbage:
      return codedError(env, "ERR_INDEX_TRAILING", "the blob goes on after its last gzip member");
    case StreamIndexer::Failure::Truncated: return codedError(env, "ERR_INDEX_TRUNCATED", "the blob ends too early");
    case StreamIndexer::Failure::Closed: return codedError(env, "ERR_CLOSED", "the indexer is closed");
    default: return errnoError(env, err, "write the layer stream");
  }
}

void check(Napi::Env env, StreamIndexer::Failure failure, int err) {
  if (failure != StreamIndexer::Failure::None) throw failureError(env, failure, err);
}

// (format, spanSize, dataFd, fineSpanSize) -> handle
Napi::Value open(const Napi::CallbackInfo& info) {
  StreamIndexer::Options options;
  const std::string format = stringArg(info[0]);
  if (format != "gzip" && format != "stored") throw Napi::TypeError::New(info.Env(), "format is 'gzip' or 'stored'");
  options.format = format == "gzip" ? StreamIndexer::Format::Gzip : StreamIndexer::Format::Stored;
  options.spanSize = uintArg(info[1]);
  if (options.spanSize == 0) throw Napi::RangeError::New(info.Env(), "a span has at least one byte");
  options.dataFd = intArg(info[2]);
  options.fineSpanSize = uintArg(info[3]);
  if (options.fineSpanSize > 0 && options.fineSpanSize < kLeastFineSpan) {
    throw Napi::RangeError::New(info.Env(), "a fine span has at least " + std::to_string(kLeastFineSpan) + " bytes");
  }
  return IndexerHandle::make(info.Env(), kTag, std::make_shared<StreamIndexer>(options));
}

Napi::Value close(const Napi::CallbackInfo& info) {
  if (auto indexer = IndexerHandle::take(info[0], kTag)) indexer->close();
  return info.Env().Undefined();
}

// (size) -> { chunk, bytes }: memory of ours that JavaScript may look at for as long as it likes.
Napi::Value makeChunk(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto chunk = std::make_shared<StreamIndexer::Chunk>(uintArg(info[0], 1u << 30));
  auto* held = new std::shared_ptr<StreamIndexer::Chunk>(chunk);
  auto bytes = Napi::Buffer<uint8_t>::New(
      env, chunk->bytes.get(), chunk->size,
      [](Napi::Env, uint8_t*, std::shared_ptr<StreamIndexer::Chunk>* owner) { delete owner; }, held);
  Napi::Object result = Napi::Object::New(env);
  result.Set("chunk", ChunkHandle::make(env, kChunkTag, std::move(chunk)));
  result.Set("bytes", bytes);
  return result;
}

// (handle, blobBytes): copied, so that the caller may use the memory again at once.
Napi::Value push(const Napi::CallbackInfo& info) {
  auto indexer = IndexerHandle::get(info[0], kTag);
  auto bytes = bytesArg(info[1]);
  indexer->push(bytes.Data(), bytes.ByteLength());
  return info.Env().Undefined();
}

// (handle, chunk) -> Promise<bytes filled; negative, minus one: nothing more of what was pushed>
Napi::Value pull(const Napi::CallbackInfo& info) {
  auto indexer = IndexerHandle::get(info[0], kTag);
  auto chunk = ChunkHandle::get(info[1], kChunkTag);
  auto* question = new Question<StreamIndexer::Pulled>(info.Env());
  Napi::Promise promise = question->deferred.Promise();
  indexer->pull(std::move(chunk), [question](const StreamIndexer::Pulled& pulled) {
    question->answer(pulled, [](Napi::Env env, const StreamIndexer::Pulled& pulled) -> Napi::Value {
      check(env, pulled.failure, pulled.err);
      const double length = static_cast<double>(pulled.length);
      return Napi::Number::New(env, pulled.more ? length : -1 - length);
    });
  });
  return promise;
}

void setCheckpoints(Napi::Object& result, const std::vector<Checkpoint>& checkpoints,
                    const std::vector<Sha256Digest>& spanSha256) {
  Napi::Env env = result.Env();
  const size_t count = checkpoints.size();
  auto in = Napi::Float64Array::New(env, count);
  auto out = Napi::Float64Array::New(env, count);
  auto bits = Napi::Uint8Array::New(env, count);
  auto digests = Napi::Buffer<uint8_t>::New(env, spanSha256.size() * sizeof(Sha256Digest));
  for (size_t i = 0; i < count; i++) {
    in[i] = static_cast<double>(checkpoints[i].in);
    out[i] = static_cast<double>(checkpoints[i].out);
    bits[i] = checkpoints[i].bits;
  }
  for (size_t i = 0; i < spanSha256.size(); i++) {
    std::memcpy(digests.Data() + i * sizeof(Sha256Digest), spanSha256[i].data(), sizeof(Sha256Digest));
  }
  result.Set("in", in);
  result.Set("out", out);
  result.Set("bits", bits);
  result.Set("spanSha256", digests);
}

Napi::Value describeFine(Napi::Env env, const StreamIndexer::Fine& fine) {
  const size_t count = fine.frames.size();
  size_t size = 0;
  for (const WindowFrame& frame : fine.frames) size += frame.bytes.size();
  auto frames = Napi::Buffer<uint8_t>::New(env, size);
  auto lengths = Napi::Uint32Array::New(env, count);
  auto digests = Napi::Buffer<uint8_t>::New(env, count * sizeof(Sha256Digest));
  size_t at = 0;
  for (size_t i = 0; i < count; i++) {
    const WindowFrame& frame = fine.frames[i];
    lengths[i] = static_cast<uint32_t>(frame.bytes.size());
    std::memcpy(digests.Data() + i * sizeof(Sha256Digest), frame.sha256.data(), sizeof(Sha256Digest));
    if (frame.bytes.empty()) continue;
    std::memcpy(frames.Data() + at, frame.bytes.data(), frame.bytes.size());
    at += frame.bytes.size();
  }
  Napi::Object result = Napi::Object::New(env);
  setCheckpoints(result, fine.checkpoints, fine.spanSha256);
  result.Set("frames", frames);
  result.Set("frameLengths", lengths);
  result.Set("frameSha256", digests);
  return result;
}

Napi::Value describe(Napi::Env env, const StreamIndexer::Index& index) {
  check(env, index.failure, index.err);
  auto windows = Napi::Buffer<uint8_t>::New(env, index.windows.size() * kWindow);
  for (size_t i = 0; i < index.windows.size(); i++) {
    std::memcpy(windows.Data() + i * kWindow, index.windows[i].get(), kWindow);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("blobSize", Napi::Number::New(env, static_cast<double>(index.blobSize)));
  result.Set("blobSha256", Napi::Buffer<uint8_t>::Copy(env, index.blobSha256.data(), index.blobSha256.size()));
  result.Set("streamSize", Napi::Number::New(env, static_cast<double>(index.streamSize)));
  result.Set("streamSha256", Napi::Buffer<uint8_t>::Copy(env, index.streamSha256.data(), index.streamSha256.size()));
  setCheckpoints(result, index.checkpoints, index.spanSha256);
  result.Set("windows", windows);
  result.Set("fine", index.fine ? describeFine(env, *index.fine) : env.Undefined());
  return result;
}

Napi::Value finish(const Napi::CallbackInfo& info) {
  auto indexer = IndexerHandle::get(info[0], kTag);
  auto* question = new Question<StreamIndexer::Index>(info.Env());
  Napi::Promise promise = question->deferred.Promise();
  indexer->finish([question](const StreamIndexer::Index& index) { question->answer(index, describe); });
  return promise;
}

// (handle) -> stream bytes that are in the file
Napi::Value written(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(IndexerHandle::get(info[0], kTag)->written()));
}

}  // namespace

void exportStreamIndexer(Napi::Env env, Napi::Object exports) {
  const std::pair<const char*, Napi::Value (*)(const Napi::CallbackInfo&)> functions[] = {
      {"streamIndexerOpen", open}, {"streamIndexerClose", close}, {"streamIndexerChunk", makeChunk},
      {"streamIndexerPush", push}, {"streamIndexerPull", pull},   {"streamIndexerFinish", finish},
      {"streamIndexerWritten", written},
  };
  for (auto [name, function] : functions) exports.Set(name, Napi::Function::New(env, function, name));
}

}  // namespace peel
