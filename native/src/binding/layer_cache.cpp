#include "binding/layer_cache.hpp"

#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>

#include "binding/args.hpp"
#include "binding/cache_events.hpp"
#include "binding/errors.hpp"
#include "binding/handle.hpp"
#include "binding/loop.hpp"
#include "cache/decode_run.hpp"
#include "gzip/inflater.hpp"

namespace peel {
namespace {

constexpr napi_type_tag kTag = {0x7065656c4c617965u, 0x7243616368650001u};

struct CacheBox {
  std::shared_ptr<LayerCache> cache;
  std::shared_ptr<CacheEvents> events;
};
using CacheHandle = Handle<CacheBox>;

using Pin = std::shared_ptr<const void>;
constexpr napi_type_tag kPinTag = {0x7065656c4c617965u, 0x7243616368650002u};

std::shared_ptr<CacheBox> boxOf(Napi::Value handle) { return CacheHandle::get(handle, kTag); }

std::vector<uint64_t> offsetsArg(Napi::Value value) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) {
    throw Napi::TypeError::New(value.Env(), "expected a Float64Array");
  }
  auto numbers = value.As<Napi::Float64Array>();
  std::vector<uint64_t> offsets(numbers.ElementLength());
  for (size_t i = 0; i < offsets.size(); i++) {
    double number = numbers.Data()[i];
    if (!(number >= 0) || number > 9007199254740991.0 || number != std::floor(number)) {
      throw Napi::RangeError::New(value.Env(), "a span offset that is no whole number");
    }
    offsets[i] = static_cast<uint64_t>(number);
  }
  return offsets;
}

uint32_t spanArg(const LayerCache& cache, Napi::Value value) {
  uint32_t span = u32Arg(value);
  if (span >= cache.spanCount()) throw Napi::RangeError::New(value.Env(), "no such span");
  return span;
}

// The first five arguments of open and adopt.
LayerCache::Options optionsArg(const Napi::CallbackInfo& info) {
  LayerCache::Options options;
  options.dir = stringArg(info[0]);
  options.livePath = stringArg(info[1]);
  options.streamSize = uintArg(info[2]);
  options.spanStarts = offsetsArg(info[3]);
  auto fingerprint = bytesArg(info[4]);
  if (fingerprint.ByteLength() != options.fingerprint.size()) {
    throw Napi::RangeError::New(info.Env(), "a fingerprint has 32 bytes");
  }
  std::memcpy(options.fingerprint.data(), fingerprint.Data(), options.fingerprint.size());
  return options;
}

// (dir, livePath, streamSize, spanStarts, fingerprint, readOnly) -> handle
Napi::Value open(const Napi::CallbackInfo& info) {
  LayerCache::Options options = optionsArg(info);
  options.readOnly = boolArg(info[5]);
  std::shared_ptr<LayerCache> cache;
  if (int err = LayerCache::open(options, cache)) throw errnoError(info.Env(), err, "open '" + options.dir + "'");
  auto events = CacheEvents::of(info.Env(), cache);
  return CacheHandle::make(info.Env(), kTag, std::make_shared<CacheBox>(std::move(cache), std::move(events)));
}

// (dir, livePath, streamSize, spanStarts, fingerprint) -> Promise<{ data?, dataSize, expectedSize, present?, sumsSize, liveIsForeign }>
Napi::Value inspect(const Napi::CallbackInfo& info) {
  struct Job {
    LayerCache::Options options;
    LayerCache::Inspection found;
    int err = 0;
  };
  auto job = std::make_shared<Job>();
  job->options = optionsArg(info);
  return JsLoop::of(info.Env())->run(
      info.Env(), Pool::io(), [job] { job->err = LayerCache::inspect(job->options, job->found); },
      [job](Napi::Env env) -> Napi::Value {
        if (job->err) throw errnoError(env, job->err, "inspect '" + job->options.dir + "'");
        const LayerCache::Inspection& found = job->found;
        Napi::Object result = Napi::Object::New(env);
        if (found.data) result.Set("data", Napi::String::New(env, errnoName(found.data)));
        if (found.present) result.Set("present", Napi::String::New(env, errnoName(found.present)));
        result.Set("dataSize", Napi::Number::New(env, static_cast<double>(found.dataSize)));
        result.Set("expectedSize", Napi::Number::New(env, static_cast<double>(found.expectedSize)));
        result.Set("sumsSize", Napi::Number::New(env, static_cast<double>(found.sumsSize)));
        result.Set("liveIsForeign", Napi::Boolean::New(env, found.liveIsForeign));
        return result;
      });
}

// (handle): no more reads; the files go with the last user.
Napi::Value close(const Napi::CallbackInfo& info) {
  if (auto box = CacheHandle::take(info[0], kTag)) box->cache->shutdown();
  return info.Env().Undefined();
}

// (handle, span) -> boolean; also wakes the reads that wait for a span which another process brought.
Napi::Value isPresent(const Napi::CallbackInfo& info) {
  auto cache = layerCacheOf(info[0]);
  return Napi::Boolean::New(info.Env(), cache->settle(spanArg(*cache, info[1])));
}

// (handle, span) -> boolean
Napi::Value isAwaited(const Napi::CallbackInfo& info) {
  auto cache = layerCacheOf(info[0]);
  return Napi::Boolean::New(info.Env(), cache->isAwaited(spanArg(*cache, info[1])));
}

Napi::Value stat(const Napi::CallbackInfo& info) {
  auto cache = layerCacheOf(info[0]);
  Napi::Object stat = Napi::Object::New(info.Env());
  stat.Set("spans", Napi::Number::New(info.Env(), cache->presentCount()));
  stat.Set("trailingZeros", Napi::Number::New(info.Env(), static_cast<double>(cache->trailingZeros())));
  stat.Set("complete", Napi::Boolean::New(info.Env(), cache->complete()));
  stat.Set("mending", Napi::Boolean::New(info.Env(), cache->mending()));
  return stat;
}

// (handle) -> number; looks at every span.
Napi::Value presentBytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(layerCacheOf(info[0])->presentBytes()));
}

Napi::Value onMiss(const Napi::CallbackInfo& info) {
  auto box = boxOf(info[0]);
  box->events->onMiss(*box->cache, functionArg(info[1]));
  return info.Env().Undefined();
}

Napi::Value onTouch(const Napi::CallbackInfo& info) {
  boxOf(info[0])->events->onTouch(functionArg(info[1]));
  return info.Env().Undefined();
}

Napi::Value onStall(const Napi::CallbackInfo& info) {
  boxOf(info[0])->events->onStall(functionArg(info[1]));
  return info.Env().Undefined();
}

// A promise that waits for spans like a read does, without a thread.
struct PromiseWaiter : SpanWaiter {
  PromiseWaiter(Napi::Env env, std::shared_ptr<LayerCache> layer, uint64_t from, uint64_t bytes)
      : loop(JsLoop::of(env)), cache(std::move(layer)), offset(from), length(bytes),
        deferred(Napi::Promise::Deferred::New(env)) {}

  void resume(int err) override {
    if (err == 0) {
      int next = cache->ensure(offset, length, this);
      if (next == 1) return;
      err = -next;
    }
    loop->post([this, err](Napi::Env env) {
      std::unique_ptr<PromiseWaiter> owned(this);
      loop->release(env);
      if (err == 0) {
        deferred.Resolve(env.Undefined());
      } else {
        deferred.Reject(errnoError(env, err, "wait").Value());
      }
    });
  }

  std::shared_ptr<JsLoop> loop;
  std::shared_ptr<LayerCache> cache;
  uint64_t offset, length;
  Napi::Promise::Deferred deferred;
};

Napi::Value wait(const Napi::CallbackInfo& info) {
  auto cache = layerCacheOf(info[0]);
  auto* waiter = new PromiseWaiter(info.Env(), cache, uintArg(info[1]), uintArg(info[2]));
  Napi::Promise promise = waiter->deferred.Promise();
  // Unlike a read through FUSE, somebody in this process wants the answer: it stays until then.
  waiter->loop->hold(info.Env());
  waiter->resume(0);
  return promise;
}

// (handle, offset, length) -> Promise<Buffer>
Napi::Value read(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto cache = layerCacheOf(info[0]);
  uint64_t offset = uintArg(info[1]);
  uint64_t length = uintArg(info[2]);
  if (offset > cache->streamSize() || length > cache->streamSize() - offset) {
    throw Napi::RangeError::New(env, "a read past the end of the layer stream");
  }
  auto buffer = Napi::Buffer<uint8_t>::New(env, length);
  auto err = std::make_shared<int>(0);
  auto held = std::make_shared<Napi::Reference<Napi::Buffer<uint8_t>>>(Napi::Reference<Napi::Buffer<uint8_t>>::New(buffer, 1));
  return JsLoop::of(env)->run(
      env, Pool::io(),
      [cache, err, offset, length, bytes = buffer.Data()] {
        *err = cache->read(offset, length, bytes);
      },
      [err, held](Napi::Env env) -> Napi::Value {
        if (*err) throw errnoError(env, *err, "read");
        return held->Value();
      });
}

Napi::Value fail(const Napi::CallbackInfo& info) {
  auto cache = layerCacheOf(info[0]);
  int err = errnoOfName(stringArg(info[2]));
  if (err == 0) throw Napi::RangeError::New(info.Env(), "no such errno name");
  cache->fail(spanArg(*cache, info[1]), err);
  return info.Env().Undefined();
}

SpanKind kindArg(Napi::Value value) {
  const std::string name = stringArg(value);
  if (name == "gzip-checkpoint") return SpanKind::GzipCheckpoint;
  if (name == "gzip-member") return SpanKind::GzipMember;
  if (name == "zstd-frame") return SpanKind::ZstdFrame;
  if (name == "stored") return SpanKind::Stored;
  throw Napi::TypeError::New(value.Env(), "unknown span decoder '" + name + "'");
}

Napi::Error decodeError(Napi::Env env, int err, const DecodeResult& result, uint32_t span) {
  const std::string of = "span " + std::to_string(span);
  switch (result.failure) {
    case SpanFailure::Digest: return codedError(env, "ERR_SPAN_DIGEST", of + " does not have the digest its index states");
    case SpanFailure::Inflate: return codedError(env, "ERR_SPAN_INFLATE", of + " does not inflate");
    case SpanFailure::Length: return codedError(env, "ERR_SPAN_LENGTH", of + " does not have the size its index states");
    default: return errnoError(env, err, "decode " + of);
  }
}

// Bounds of the pieces in the data, from and to of each.
std::vector<DecodeRun::Piece> piecesArg(Napi::Value bits, Napi::Value bounds, size_t size) {
  auto highBits = bytesArg(bits);
  if (!bounds.IsTypedArray() || bounds.As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) {
    throw Napi::TypeError::New(bounds.Env(), "expected a Uint32Array");
  }
  auto numbers = bounds.As<Napi::Uint32Array>();
  if (highBits.ByteLength() == 0 || numbers.ElementLength() != 2 * highBits.ByteLength()) {
    throw Napi::RangeError::New(bounds.Env(), "a run has as many bounds as it has spans, and some");
  }
  std::vector<DecodeRun::Piece> pieces(highBits.ByteLength());
  for (size_t i = 0; i < pieces.size(); i++) {
    pieces[i] = {highBits.Data()[i], numbers.Data()[2 * i], numbers.Data()[2 * i + 1]};
    if (pieces[i].bits > 7) throw Napi::RangeError::New(bounds.Env(), "a span begins 0 to 7 bits into a byte");
    if (pieces[i].from > pieces[i].to || pieces[i].to > size) {
      throw Napi::RangeError::New(bounds.Env(), "a span outside of the bytes of its run");
    }
  }
  return pieces;
}

Napi::Value runResult(Napi::Env env, const DecodeRunResult& result, uint32_t first) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("present", Napi::Number::New(env, result.present));
  object.Set("bytes", Napi::Number::New(env, static_cast<double>(result.bytes)));
  if (result.err) object.Set("error", decodeError(env, result.err, result.failed, first + result.present).Value());
  if (result.refused) object.Set("refused", errnoError(env, result.refused, "write a span").Value());
  if (result.hasTail) object.Set("tail", Napi::Buffer<uint8_t>::Copy(env, result.tail.data(), result.tail.size()));
  return object;
}

// (handle, first, decoder, bits, bounds, data, window?, sha256?, openEnded, inBackground) -> Promise<{ present, bytes, error?, refused?, tail? }>
Napi::Value decode(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  struct Job {
    DecodeRun run;
    DecodeRunResult result;
  };
  auto cache = layerCacheOf(info[0]);
  uint32_t first = spanArg(*cache, info[1]);
  auto job = std::make_shared<Job>();
  job->run.kind = kindArg(info[2]);
  auto data = bytesArg(info[5]);
  job->run.data = data.Data();
  job->run.size = data.ByteLength();
  job->run.pieces = piecesArg(info[3], info[4], job->run.size);
  const size_t spans = job->run.pieces.size();
  if (spans > cache->spanCount() - first) throw Napi::RangeError::New(env, "a run of more spans than there are");
  std::vector<Napi::Value> keep{info[5]};
  if (info[6].IsString()) {
    if (stringArg(info[6]) != "cached") throw Napi::TypeError::New(env, "a window is bytes, or 'cached'");
    job->run.windowInCache = true;
  } else if (!info[6].IsUndefined()) {
    auto window = bytesArg(info[6]);
    if (window.ByteLength() > 32768) throw Napi::RangeError::New(env, "a window has at most 32768 bytes");
    job->run.window = window.Data();
    job->run.windowSize = window.ByteLength();
    keep.push_back(info[6]);
  }
  if (!info[7].IsUndefined()) {
    auto digests = bytesArg(info[7]);
    if (digests.ByteLength() != 32 * spans) throw Napi::RangeError::New(env, "a sha256 has 32 bytes");
    job->run.sha256 = digests.Data();
    keep.push_back(info[7]);
  }
  job->run.openEnded = boolArg(info[8]);
  Pool& pool = boolArg(info[9]) ? Pool::background() : Pool::cpu();
  return JsLoop::of(env)->run(
      env, pool, [cache, job, first] { decodeRun(*cache, first, job->run, job->result); },
      [job, first](Napi::Env env) { return runResult(env, job->result, first); }, keep);
}

// A method of LayerCache without arguments as a promise.
template <int (LayerCache::*Method)()>
Napi::Value durable(const Napi::CallbackInfo& info) {
  auto cache = layerCacheOf(info[0]);
  auto err = std::make_shared<int>(0);
  return JsLoop::of(info.Env())->run(
      info.Env(), Pool::io(), [cache, err] { *err = (cache.get()->*Method)(); },
      [err](Napi::Env env) -> Napi::Value {
        if (*err) throw errnoError(env, *err, Method == &LayerCache::sync ? "sync" : "markComplete");
        return env.Undefined();
      });
}

Napi::Value digest(const Napi::CallbackInfo& info) {
  struct Job {
    std::array<uint8_t, 32> digest;
    int err = 0;
  };
  auto cache = layerCacheOf(info[0]);
  auto job = std::make_shared<Job>();
  return JsLoop::of(info.Env())->run(
      info.Env(), Pool::hashing(), [cache, job] { job->err = cache->digest(job->digest); },
      [job](Napi::Env env) -> Napi::Value {
        if (job->err) throw errnoError(env, job->err, "digest");
        return Napi::Buffer<uint8_t>::Copy(env, job->digest.data(), job->digest.size());
      });
}

// (handle, span) -> Promise<boolean>: false when the bytes were wrong and the bit is dropped.
Napi::Value verify(const Napi::CallbackInfo& info) {
  auto cache = layerCacheOf(info[0]);
  uint32_t span = spanArg(*cache, info[1]);
  auto err = std::make_shared<int>(0);
  return JsLoop::of(info.Env())->run(
      info.Env(), Pool::io(), [cache, err, span] { *err = cache->verify(span); },
      [err](Napi::Env env) -> Napi::Value {
        if (*err && *err != -EILSEQ) throw errnoError(env, *err, "verify");
        return Napi::Boolean::New(env, *err == 0);
      });
}

// (handle, spans) -> Promise<{ evicted, bytes }>
Napi::Value evict(const Napi::CallbackInfo& info) {
  struct Job {
    LayerCache::Evicted evicted;
    int err = 0;
  };
  auto cache = layerCacheOf(info[0]);
  if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) {
    throw Napi::TypeError::New(info.Env(), "expected a Uint32Array");
  }
  auto numbers = info[1].As<Napi::Uint32Array>();
  std::vector<uint32_t> spans(numbers.Data(), numbers.Data() + numbers.ElementLength());
  for (uint32_t span : spans) {
    if (span >= cache->spanCount()) throw Napi::RangeError::New(info.Env(), "no such span");
  }
  auto job = std::make_shared<Job>();
  return JsLoop::of(info.Env())->run(
      info.Env(), Pool::io(), [cache, job, spans] { job->err = cache->evict(spans, job->evicted); },
      [job](Napi::Env env) -> Napi::Value {
        if (job->err) throw errnoError(env, job->err, "evict");
        Napi::Object result = Napi::Object::New(env);
        result.Set("evicted", Napi::Number::New(env, job->evicted.spans));
        result.Set("bytes", Napi::Number::New(env, static_cast<double>(job->evicted.bytes)));
        return result;
      });
}

Napi::Value lastUsed(const Napi::CallbackInfo& info) {
  const std::vector<uint32_t> stamps = layerCacheOf(info[0])->lastUsed();
  auto array = Napi::Uint32Array::New(info.Env(), stamps.size());
  std::memcpy(array.Data(), stamps.data(), stamps.size() * sizeof(uint32_t));
  return array;
}

Napi::Value coarseNow(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), LiveBits::coarseNow()); }

// (handle) -> Promise<pin>, for unpin
Napi::Value pin(const Napi::CallbackInfo& info) {
  auto cache = layerCacheOf(info[0]);
  auto held = std::make_shared<Pin>();
  auto err = std::make_shared<int>(0);
  return JsLoop::of(info.Env())->run(
      info.Env(), Pool::io(), [cache, held, err] { *err = cache->pin(*held); },
      [held, err](Napi::Env env) -> Napi::Value {
        if (*err) throw errnoError(env, *err, "pin");
        return Handle<Pin>::make(env, kPinTag, held);
      });
}

Napi::Value unpin(const Napi::CallbackInfo& info) {
  // Whatever else may hold the handle's box: the lock goes now.
  if (auto held = Handle<Pin>::take(info[0], kPinTag)) held->reset();
  return info.Env().Undefined();
}

// (dir, livePath, streamSize, spanStarts, fingerprint, stream, complete) -> Promise<boolean>: false when in use.
Napi::Value adopt(const Napi::CallbackInfo& info) {
  auto options = std::make_shared<LayerCache::Options>(optionsArg(info));
  auto err = std::make_shared<int>(0);
  const std::string stream = stringArg(info[5]);
  return JsLoop::of(info.Env())->run(
      info.Env(), Pool::io(),
      [options, err, stream, complete = boolArg(info[6])] { *err = LayerCache::adopt(*options, stream, complete); },
      [err, stream](Napi::Env env) -> Napi::Value {
        if (*err && *err != -EAGAIN) throw errnoError(env, *err, "adopt '" + stream + "'");
        return Napi::Boolean::New(env, *err == 0);
      });
}

// (dir, livePath) -> Promise<boolean>: false when somebody uses the layer.
Napi::Value removeLayer(const Napi::CallbackInfo& info) {
  auto err = std::make_shared<int>(0);
  std::string dir = stringArg(info[0]);
  return JsLoop::of(info.Env())->run(
      info.Env(), Pool::io(), [err, dir, live = stringArg(info[1])] { *err = tryRemoveLayer(dir, live); },
      [err, dir](Napi::Env env) -> Napi::Value {
        if (*err && *err != -EAGAIN) throw errnoError(env, *err, "remove '" + dir + "'");
        return Napi::Boolean::New(env, *err == 0);
      });
}

// ('isal' | 'zlib') -> boolean: false when it is not built in. For tests and benchmarks.
Napi::Value setBackend(const Napi::CallbackInfo& info) {
  const std::string name = stringArg(info[0]);
  if (name != "isal" && name != "zlib") throw Napi::TypeError::New(info.Env(), "the inflate backend is 'isal' or 'zlib'");
  return Napi::Boolean::New(info.Env(), setInflateBackend(name == "isal" ? InflateBackend::Isal : InflateBackend::Zlib));
}

}  // namespace

std::shared_ptr<LayerCache> layerCacheOf(Napi::Value handle) { return boxOf(handle)->cache; }

void exportLayerCache(Napi::Env env, Napi::Object exports) {
  const std::pair<const char*, Napi::Value (*)(const Napi::CallbackInfo&)> functions[] = {
      {"layerCacheOpen", open},
      {"layerCacheInspect", inspect},
      {"layerCacheAdopt", adopt},
      {"layerCacheClose", close},
      {"layerCacheIsPresent", isPresent},
      {"layerCacheIsAwaited", isAwaited},
      {"layerCacheStat", stat},
      {"layerCachePresentBytes", presentBytes},
      {"layerCacheOnMiss", onMiss},
      {"layerCacheOnTouch", onTouch},
      {"layerCacheOnStall", onStall},
      {"layerCacheWait", wait},
      {"layerCacheRead", read},
      {"layerCacheDecode", decode},
      {"layerCacheFail", fail},
      {"layerCacheSync", durable<&LayerCache::sync>},
      {"layerCacheMarkComplete", durable<&LayerCache::markComplete>},
      {"layerCacheDigest", digest},
      {"layerCacheVerify", verify},
      {"layerCacheEvict", evict},
      {"layerCacheLastUsed", lastUsed},
      {"layerCacheCoarseNow", coarseNow},
      {"layerCachePin", pin},
      {"layerCacheUnpin", unpin},
      {"layerCacheRemove", removeLayer},
      {"setInflateBackend", setBackend},
  };
  for (auto [name, function] : functions) exports.Set(name, Napi::Function::New(env, function, name));
}

}  // namespace peel
