#include "binding/mounts.hpp"

#include "binding/args.hpp"
#include "binding/errors.hpp"
#include "binding/loop.hpp"
#include "binding/path_arg.hpp"
#include "sys/fd_message.hpp"
#include "sys/mount.hpp"

namespace peel {
namespace {

struct Outcome {
  MountError error;
  Fd fd;
};

/** Runs a mount call off the JavaScript thread; the promise is the new mount's fd, or undefined where there is none. */
Napi::Value runMount(Napi::Env env, std::function<void(Outcome&)> work) {
  auto outcome = std::make_shared<Outcome>();
  return JsLoop::of(env)->run(
      env, Pool::io(), [outcome, work = std::move(work)] { work(*outcome); },
      [outcome](Napi::Env settled) -> Napi::Value {
        const MountError& error = outcome->error;
        if (error.err != 0) {
          throw errnoError(settled, error.err, error.log.empty() ? error.what : error.what + " (" + error.log + ")");
        }
        if (!outcome->fd.valid()) return settled.Undefined();
        return Napi::Number::New(settled, outcome->fd.release());
      },
      {}, JsLoop::AtEnd::Abandon);
}

// (fuseFd, allowOther, readOnly) -> Promise<mount fd>
Napi::Value fuse(const Napi::CallbackInfo& info) {
  const FuseMountOptions options{intArg(info[0]), boolArg(info[1]), boolArg(info[2])};
  return runMount(info.Env(), [options](Outcome& out) { out.error = fuseMount(options, out.fd); });
}

// (source, devices, directIo, noSuidDev) -> Promise<mount fd>
Napi::Value erofs(const Napi::CallbackInfo& info) {
  const ErofsMountOptions options{stringArg(info[0]), stringsArg(info[1]), boolArg(info[2]), boolArg(info[3])};
  return runMount(info.Env(), [options](Outcome& out) { out.error = erofsMount(options, out.fd); });
}

// (lower, upper, work, noSuidDev) -> Promise<mount fd>
Napi::Value overlay(const Napi::CallbackInfo& info) {
  const OverlayMountOptions options{stringsArg(info[0]), stringArg(info[1]), stringArg(info[2]), boolArg(info[3])};
  return runMount(info.Env(), [options](Outcome& out) { out.error = overlayMount(options, out.fd); });
}

// (mountFd, target) -> Promise<void>
Napi::Value attach(const Napi::CallbackInfo& info) {
  return runMount(info.Env(), [fd = intArg(info[0]), target = pathArg(info[1])](Outcome& out) {
    out.error = attachMount(fd, target);
  });
}

// (target, detach) -> Promise<void>
Napi::Value umount(const Napi::CallbackInfo& info) {
  return runMount(info.Env(), [target = pathArg(info[0]), detach = boolArg(info[1])](Outcome& out) {
    out.error = unmount(target, detach);
  });
}

// () -> [ours, theirs]
Napi::Value fdSocket(const Napi::CallbackInfo& info) {
  Fd ours;
  Fd theirs;
  if (const int err = makeFdSocket(ours, theirs)) throw errnoError(info.Env(), err, "socketpair");
  Napi::Array pair = Napi::Array::New(info.Env(), 2);
  pair.Set(0u, Napi::Number::New(info.Env(), ours.release()));
  pair.Set(1u, Napi::Number::New(info.Env(), theirs.release()));
  return pair;
}

// (socket) -> Promise<fd>
Napi::Value receive(const Napi::CallbackInfo& info) {
  return runMount(info.Env(), [socket = intArg(info[0])](Outcome& out) {
    out.error.err = -receiveFd(socket, out.fd);
    out.error.what = "recvmsg";
  });
}

}  // namespace

void exportMounts(Napi::Env env, Napi::Object exports) {
  exports.Set("mountFuse", Napi::Function::New(env, fuse));
  exports.Set("mountErofs", Napi::Function::New(env, erofs));
  exports.Set("mountOverlay", Napi::Function::New(env, overlay));
  exports.Set("mountAttach", Napi::Function::New(env, attach));
  exports.Set("mountUnmount", Napi::Function::New(env, umount));
  exports.Set("mountFdSocket", Napi::Function::New(env, fdSocket));
  exports.Set("mountReceiveFd", Napi::Function::New(env, receive));
}

}  // namespace peel
