#include "binding/fd_messages.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "binding/args.hpp"
#include "binding/errors.hpp"
#include "binding/loop.hpp"
#include "binding/path_arg.hpp"
#include "sys/fd_message.hpp"

namespace peel {
namespace {

// (path) -> fd
Napi::Value connect(const Napi::CallbackInfo& info) {
  const std::string path = pathArg(info[0]);
  Fd fd;
  const int err = connectFdSocket(path, fd);
  if (err != 0) throw errnoError(info.Env(), err, "connect '" + path + "'");
  return Napi::Number::New(info.Env(), fd.release());
}

// (socket): whoever waits for an answer is told that none comes
Napi::Value disconnect(const Napi::CallbackInfo& info) {
  ::shutdown(intArg(info[0]), SHUT_RDWR);
  return info.Env().Undefined();
}

Fd duplicate(Napi::Env env, int fd) {
  Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) throw errnoError(env, errno, "fcntl");
  return copy;
}

// (fd) -> fd
Napi::Value copy(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), duplicate(info.Env(), intArg(info[0])).release());
}

// (socket, request, fd or -1, timeoutMs) -> Promise<[text, fd or -1][]>: the answers, of which the last has no fd
Napi::Value exchange(const Napi::CallbackInfo& info) {
  struct State {
    Fd socket, fd;
    std::vector<FdMessage> answers;
    int err = 0;
  };
  auto state = std::make_shared<State>();
  // The caller may close his meanwhile, and its number may become another file's.
  state->socket = duplicate(info.Env(), intArg(info[0]));
  const std::string request = stringArg(info[1]);
  const int fd = intArg(info[2]);
  if (fd != -1) state->fd = duplicate(info.Env(), fd);
  const int timeoutMs = static_cast<int>(uintArg(info[3], 0x7fffffff));
  return JsLoop::of(info.Env())->run(
      info.Env(), Pool::io(),
      [state, request, timeoutMs] {
        state->err =
            exchangeFdMessages(state->socket.get(), request, state->fd.get(), timeoutMs, state->answers);
      },
      [state](Napi::Env env) -> Napi::Value {
        if (state->err != 0) throw errnoError(env, state->err, "exchange");
        Napi::Array out = Napi::Array::New(env, state->answers.size());
        for (uint32_t i = 0; i < state->answers.size(); ++i) {
          FdMessage& answer = state->answers[i];
          Napi::Array pair = Napi::Array::New(env, 2);
          pair.Set(0u, Napi::String::New(env, answer.text));
          pair.Set(1u, Napi::Number::New(env, answer.fds.empty() ? -1 : answer.fds[0].release()));
          out.Set(i, pair);
        }
        return out;
      },
      {}, JsLoop::AtEnd::Abandon);
}

}  // namespace

void exportFdMessages(Napi::Env env, Napi::Object exports) {
  exports.Set("fdMessagesConnect", Napi::Function::New(env, connect));
  exports.Set("fdMessagesCopy", Napi::Function::New(env, copy));
  exports.Set("fdMessagesDisconnect", Napi::Function::New(env, disconnect));
  exports.Set("fdMessagesExchange", Napi::Function::New(env, exchange));
}

}  // namespace peel
