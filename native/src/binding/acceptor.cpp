#include "binding/acceptor.hpp"

#include "binding/args.hpp"
#include "binding/errors.hpp"
#include "binding/handle.hpp"
#include "binding/loop.hpp"
#include "sys/acceptor.hpp"

namespace peel {
namespace {

constexpr napi_type_tag kTag = {0x7065656c41636365u, 0x70746f7200010001u};

// The function is released on the JavaScript thread, where it is called.
struct AcceptorBox {
  std::shared_ptr<JsLoop> loop;
  std::shared_ptr<Napi::FunctionReference> onConnection;
  Acceptor acceptor;
};
using AcceptorHandle = Handle<AcceptorBox>;

// (listening fd, (fd) => void) -> handle; owns the listening fd. Keeps the process alive until it is stopped.
Napi::Value start(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto box = std::make_shared<AcceptorBox>();
  box->loop = JsLoop::of(env);
  Fd listening(intArg(info[0]));
  box->onConnection = std::make_shared<Napi::FunctionReference>(Napi::Persistent(functionArg(info[1])));
  const auto onConnection = [loop = box->loop, call = std::weak_ptr(box->onConnection)](Fd connection) {
    loop->post([call, fd = std::make_shared<Fd>(std::move(connection))](Napi::Env at) {
      // Stopped meanwhile: the connection ends.
      if (const auto callback = call.lock()) callback->MakeCallback(at.Global(), {Napi::Number::New(at, fd->release())});
    });
  };
  if (const int err = box->acceptor.start(std::move(listening), onConnection)) throw errnoError(env, err, "accept connections");
  Napi::Object handle = AcceptorHandle::make(env, kTag, box);
  box->loop->hold(env);
  return handle;
}

// (handle): nothing is called any more.
Napi::Value stop(const Napi::CallbackInfo& info) {
  if (auto box = AcceptorHandle::take(info[0], kTag)) {
    box->onConnection.reset();
    box->acceptor.stop();
    box->loop->release(info.Env());
  }
  return info.Env().Undefined();
}

}  // namespace

void exportAcceptor(Napi::Env env, Napi::Object exports) {
  exports.Set("acceptorStart", Napi::Function::New(env, start));
  exports.Set("acceptorStop", Napi::Function::New(env, stop));
}

}  // namespace peel
