#pragma once
#include <napi.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "sys/pool.hpp"

namespace peel {

// The way from any thread back to one environment's JavaScript thread (the main thread or a worker thread).
//
// It keeps the process alive only while work started by run() is unfinished; posted events alone do not. When the
// environment ends, work that has not begun is dropped and work that runs is (with Wait) waited for, because it may be
// reading memory that belongs to JavaScript.
class JsLoop : public std::enable_shared_from_this<JsLoop> {
 public:
  static std::shared_ptr<JsLoop> of(Napi::Env env);

  // Calls f on the JavaScript thread, in a handle scope; an exception from it is reported as uncaught. Any thread.
  // After the environment ended f is leaked on purpose: destroying JavaScript references then is undefined.
  void post(std::function<void(Napi::Env)> f);

  // Runs `work` on `pool`, then `settle` on the JavaScript thread, whose value resolves the promise and whose thrown
  // Napi::Error rejects it. The values of `keep` stay alive until then. JavaScript thread only.
  // Abandon is for work that touches nothing of JavaScript's and may wait for somebody else (a helper, a filesystem):
  // an environment that ends leaves it behind.
  enum class AtEnd : uint8_t { Wait, Abandon };
  Napi::Promise run(Napi::Env env, Pool& pool, std::function<void()> work, std::function<Napi::Value(Napi::Env)> settle,
                    std::vector<Napi::Value> keep = {}, AtEnd atEnd = AtEnd::Wait);

  // A reason for the process to stay, and its end. JavaScript thread only.
  void hold(Napi::Env env);
  void release(Napi::Env env);

  // Before work on a thread of one's own touches JavaScript's memory, and after. False: the environment is ending.
  bool enter();
  void leave();

 private:
  static void call(napi_env env, napi_value, void* context, void* data);
  static void atExit(void* self);

  napi_threadsafe_function function_ = nullptr;
  size_t holds_ = 0;
  std::mutex mutex_;
  std::condition_variable idle_;
  size_t running_ = 0;
  bool ended_ = false;
};

}  // namespace peel
