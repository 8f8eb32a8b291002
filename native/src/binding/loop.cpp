#include "binding/loop.hpp"

#include <cerrno>
#include <new>

#include "binding/errors.hpp"

namespace peel {

std::shared_ptr<JsLoop> JsLoop::of(Napi::Env env) {
  using Slot = std::shared_ptr<JsLoop>;
  if (auto* slot = env.GetInstanceData<Slot>()) return *slot;
  auto loop = std::make_shared<JsLoop>();
  napi_value name;
  if (napi_create_string_utf8(env, "peel", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr, &JsLoop::call,
                                      &loop->function_) != napi_ok ||
      napi_unref_threadsafe_function(env, loop->function_) != napi_ok) {
    throw Napi::Error::New(env);
  }
  // Registered after the function's own hook, hence run before it: nobody calls a closing function.
  auto* slot = new Slot(loop);
  if (napi_add_env_cleanup_hook(env, &JsLoop::atExit, new Slot(loop)) != napi_ok) throw Napi::Error::New(env);
  env.SetInstanceData<Slot>(slot);
  return loop;
}

void JsLoop::atExit(void* data) {
  auto* slot = static_cast<std::shared_ptr<JsLoop>*>(data);
  {
    std::unique_lock lock((*slot)->mutex_);
    (*slot)->ended_ = true;
    (*slot)->idle_.wait(lock, [&] { return (*slot)->running_ == 0; });
  }
  delete slot;
}

bool JsLoop::enter() {
  std::lock_guard lock(mutex_);
  if (ended_) return false;
  running_++;
  return true;
}

void JsLoop::leave() {
  std::lock_guard lock(mutex_);
  if (--running_ == 0) idle_.notify_all();
}

void JsLoop::post(std::function<void(Napi::Env)> f) {
  auto* boxed = new std::function<void(Napi::Env)>(std::move(f));
  std::lock_guard lock(mutex_);
  if (ended_) return;
  (void)napi_call_threadsafe_function(function_, boxed, napi_tsfn_nonblocking);
}

void JsLoop::call(napi_env rawEnv, napi_value, void*, void* data) {
  if (rawEnv == nullptr) return;
  std::unique_ptr<std::function<void(Napi::Env)>> f(static_cast<std::function<void(Napi::Env)>*>(data));
  Napi::Env env(rawEnv);
  Napi::HandleScope scope(env);
  try {
    (*f)(env);
  } catch (const Napi::Error& error) {
    napi_fatal_exception(env, error.Value());
  }
}

void JsLoop::hold(Napi::Env env) {
  if (holds_++ == 0) napi_ref_threadsafe_function(env, function_);
}

void JsLoop::release(Napi::Env env) {
  if (--holds_ == 0) napi_unref_threadsafe_function(env, function_);
}

Napi::Promise JsLoop::run(Napi::Env env, Pool& pool, std::function<void()> work,
                          std::function<Napi::Value(Napi::Env)> settle, std::vector<Napi::Value> keep, AtEnd atEnd) {
  struct Task {
    Napi::Promise::Deferred deferred;
    std::function<void()> work;
    std::function<Napi::Value(Napi::Env)> settle;
    std::vector<Napi::Reference<Napi::Value>> kept;
  };
  auto* task = new Task{Napi::Promise::Deferred::New(env), std::move(work), std::move(settle), {}};
  for (Napi::Value value : keep) task->kept.push_back(Napi::Reference<Napi::Value>::New(value, 1));
  Napi::Promise promise = task->deferred.Promise();
  hold(env);
  // The task is deleted on the JavaScript thread or, when there is none any more, not at all.
  pool.submit([self = shared_from_this(), task, atEnd] {
    if (!self->enter()) return;
    if (atEnd == AtEnd::Abandon) self->leave();
    bool done = false;
    try {
      task->work();
      done = true;
    } catch (const std::bad_alloc&) {
      // Whoever asked may do with less, or later.
    }
    self->post([self, task, done](Napi::Env env) {
      std::unique_ptr<Task> owned(task);
      self->release(env);
      try {
        if (!done) throw errnoError(env, ENOMEM, "work");
        task->deferred.Resolve(task->settle(env));
      } catch (const Napi::Error& error) {
        task->deferred.Reject(error.Value());
      }
    });
    if (atEnd == AtEnd::Wait) self->leave();
  });
  return promise;
}

}  // namespace peel
