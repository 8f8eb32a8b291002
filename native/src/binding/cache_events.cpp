#include "binding/cache_events.hpp"

#include <cstring>
#include <utility>

namespace peel {
namespace {

// What one handler throws must not keep the others from what they wait for.
void call(Napi::Env env, const Napi::FunctionReference& handler, const std::vector<napi_value>& args) {
  try {
    handler.MakeCallback(env.Global(), args);
  } catch (const Napi::Error& error) {
    napi_fatal_exception(env, error.Value());
  }
}

}  // namespace

std::shared_ptr<CacheEvents> CacheEvents::of(Napi::Env env, const std::shared_ptr<LayerCache>& cache) {
  auto loop = JsLoop::of(env);
  std::shared_ptr<CacheEvents> events(new CacheEvents(loop, cache->log()), [loop](CacheEvents* gone) {
    loop->post([gone](Napi::Env) { delete gone; });
  });
  // Weak: the log is the cache's, and the events hold the log.
  cache->log()->setReady([weak = std::weak_ptr(events)] {
    if (auto self = weak.lock()) self->post();
  });
  return events;
}

void CacheEvents::onMiss(LayerCache& cache, Napi::Function handler) {
  miss_ = Napi::Persistent(handler);
  uint64_t turn = 0;
  {
    std::lock_guard lock(mutex_);
    turn = ++turn_;
    // The cache tells the new handler of all that is asked for.
    misses_.clear();
  }
  cache.setMissHandler([self = shared_from_this(), turn](const uint32_t* spans, size_t count) {
    self->addMisses(turn, spans, count);
  });
}

void CacheEvents::onTouch(Napi::Function handler) {
  touch_ = Napi::Persistent(handler);
  post();
}

void CacheEvents::onStall(Napi::Function handler) {
  stall_ = Napi::Persistent(handler);
  post();
}

void CacheEvents::addMisses(uint64_t turn, const uint32_t* spans, size_t count) {
  {
    std::lock_guard lock(mutex_);
    if (turn != turn_) return;
    misses_.insert(misses_.end(), spans, spans + count);
  }
  post();
}

void CacheEvents::post() {
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(posted_, true)) return;
  }
  loop_->post([self = shared_from_this()](Napi::Env env) { self->deliver(env); });
}

void CacheEvents::deliver(Napi::Env env) {
  std::vector<uint32_t> misses;
  {
    std::lock_guard lock(mutex_);
    posted_ = false;
    misses.swap(misses_);
  }
  // Taken after the misses, so that theirs are among them.
  deliverTouches(env);
  if (!misses.empty()) {
    auto array = Napi::Uint32Array::New(env, misses.size());
    std::memcpy(array.Data(), misses.data(), misses.size() * sizeof(uint32_t));
    call(env, miss_, {array});
  }
  deliverStalls(env);
}

void CacheEvents::deliverTouches(Napi::Env env) {
  if (touch_.IsEmpty()) return;
  const std::vector<SpanTouch> touches = log_->takeTouches();
  if (touches.empty()) return;
  auto spans = Napi::Uint32Array::New(env, touches.size());
  auto at = Napi::Float64Array::New(env, touches.size());
  for (size_t i = 0; i < touches.size(); i++) {
    spans.Data()[i] = touches[i].span;
    at.Data()[i] = static_cast<double>(touches[i].at);
  }
  call(env, touch_, {spans, at});
}

void CacheEvents::deliverStalls(Napi::Env env) {
  if (stall_.IsEmpty()) return;
  const ReadLog::Stalls stalls = log_->takeStalls();
  if (stalls.kept.empty()) return;
  auto numbers = Napi::Float64Array::New(env, stalls.kept.size() * 5);
  double* at = numbers.Data();
  for (const ReadStall& stall : stalls.kept) {
    *at++ = static_cast<double>(stall.offset);
    *at++ = static_cast<double>(stall.length);
    *at++ = static_cast<double>(stall.start);
    *at++ = static_cast<double>(stall.end);
    *at++ = stall.err;
  }
  call(env, stall_, {numbers, Napi::Number::New(env, static_cast<double>(stalls.dropped))});
}

}  // namespace peel
