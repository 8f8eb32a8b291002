#pragma once
#include <napi.h>

#include <functional>
#include <memory>

#include "binding/loop.hpp"

namespace peel {

// One question to a native thread as a promise, which keeps the process alive until it is answered. Whoever is asked is not
// held: when its handle goes, it must answer.
template <class Answer>
struct Question {
  explicit Question(Napi::Env env) : loop(JsLoop::of(env)), deferred(Napi::Promise::Deferred::New(env)) { loop->hold(env); }

  // Once, on any thread. `convert` gives what the promise resolves to, or throws what it rejects with. Deletes the question.
  void answer(Answer what, std::function<Napi::Value(Napi::Env, const Answer&)> convert) {
    loop->post([this, what = std::move(what), convert = std::move(convert)](Napi::Env env) {
      std::unique_ptr<Question> owned(this);
      loop->release(env);
      try {
        deferred.Resolve(convert(env, what));
      } catch (const Napi::Error& error) {
        deferred.Reject(error.Value());
      }
    });
  }

  std::shared_ptr<JsLoop> loop;
  Napi::Promise::Deferred deferred;
};

}  // namespace peel
