#include "binding/fuse_server.hpp"

#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "binding/args.hpp"
#include "binding/errors.hpp"
#include "binding/handle.hpp"
#include "binding/layer_cache.hpp"
#include "binding/loop.hpp"
#include "fuse/blobs_server.hpp"
#include "fuse/session.hpp"
#include "fuse/tree_server.hpp"
#include "sys/pool.hpp"

namespace peel {
namespace {

constexpr napi_type_tag kTag = {0x7065656c66757365u, 0x5365727665720001u};
constexpr size_t kErrorsKept = 64;  // messages of one turn of the loop; the rest is only counted

// Messages on their way to JavaScript.
struct Errors {
  std::mutex mutex;
  std::vector<std::string> messages;
};

// The functions keep the TypeScript object alive, which keeps this alive, until the connection has ended.
struct ServerBox : std::enable_shared_from_this<ServerBox> {
  std::shared_ptr<JsLoop> loop;
  Napi::FunctionReference onClosed;
  Napi::FunctionReference onError;
  std::shared_ptr<fuse::BlobsServer> blobs;  // null for a tree
  bool waits = false;  // adopted and not started
  std::shared_ptr<fuse::Session> session;  // last member: it ends before what its threads use
};
using ServerHandle = Handle<ServerBox>;

// Any thread. A box is locked on the JavaScript thread only: the last owner of its references must be there.
void reportError(const std::weak_ptr<ServerBox>& weak, const std::shared_ptr<Errors>& errors,
                 const std::shared_ptr<JsLoop>& loop, const std::string& text) {
  {
    std::lock_guard lock(errors->mutex);
    if (errors->messages.size() >= kErrorsKept) return;
    errors->messages.push_back(text);
    if (errors->messages.size() > 1) return;
  }
  loop->post([weak, errors](Napi::Env env) {
    std::vector<std::string> messages;
    {
      std::lock_guard lock(errors->mutex);
      messages.swap(errors->messages);
    }
    const auto box = weak.lock();
    if (!box || box->onError.IsEmpty()) return;
    Napi::Array list = Napi::Array::New(env, messages.size());
    for (size_t i = 0; i < messages.size(); ++i) list.Set(static_cast<uint32_t>(i), messages[i]);
    box->onError.MakeCallback(env.Global(), {list});
  });
}

/** undefined, or { flags, resend }. */
std::optional<fuse::Adoption> adoptionArg(Napi::Value value) {
  if (value.IsUndefined()) return std::nullopt;
  if (!value.IsObject()) throw Napi::TypeError::New(value.Env(), "expected an object");
  const auto object = value.As<Napi::Object>();
  return fuse::Adoption{uintArg(object.Get("flags")), boolArg(object.Get("resend"))};
}

Napi::Object serve(const Napi::CallbackInfo& info, std::shared_ptr<fuse::Filesystem> filesystem,
                   std::shared_ptr<fuse::BlobsServer> blobs) {
  Napi::Env env = info.Env();
  auto box = std::make_shared<ServerBox>();
  const auto loop = JsLoop::of(env);
  box->loop = loop;
  box->onClosed = Napi::Persistent(functionArg(info[2]));
  box->onError = Napi::Persistent(functionArg(info[3]));
  box->blobs = std::move(blobs);
  const std::weak_ptr<ServerBox> weak = box;
  fuse::Session::Options options;
  options.fd = intArg(info[0]);
  options.threads = u32Arg(info[1]);
  options.adoption = adoptionArg(info[4]);
  if (info[5].IsString()) {
    const std::string path = stringArg(info[5]);
    if (const int err = fuse::TakenRequests::open(path, options.taken)) throw errnoError(env, err, "open '" + path + "'");
  }
  options.filesystem = std::move(filesystem);
  options.onError = [weak, errors = std::make_shared<Errors>(), loop](const std::string& text) {
    reportError(weak, errors, loop, text);
  };
  options.onClosed = [weak, loop](const std::string& reason) {
    loop->post([weak, loop, reason](Napi::Env closedEnv) {
      const auto closed = weak.lock();
      if (!closed) return;
      loop->release(closedEnv);
      const Napi::FunctionReference callback = std::move(closed->onClosed);
      closed->onError.Reset();
      callback.MakeCallback(closedEnv.Global(), {Napi::String::New(closedEnv, reason)});
    });
  };
  Napi::Object handle = ServerHandle::make(env, kTag, box);
  loop->hold(env);
  box->waits = options.adoption.has_value();
  box->session = std::make_shared<fuse::Session>(std::move(options));
  return handle;
}

// (fd, threads, onClosed, onError, adoption, takenPath) -> handle; owns fd
Napi::Value blobs(const Napi::CallbackInfo& info) {
  auto server = std::make_shared<fuse::BlobsServer>();
  return serve(info, server, server);
}

// (fd, threads, onClosed, onError, adoption, takenPath, treePath, cacheHandles) -> handle
Napi::Value tree(const Napi::CallbackInfo& info) {
  const std::string path = stringArg(info[6]);
  if (!info[7].IsArray()) throw Napi::TypeError::New(info.Env(), "expected an array");
  auto list = info[7].As<Napi::Array>();
  std::vector<std::shared_ptr<LayerCache>> caches;
  for (uint32_t i = 0; i < list.Length(); ++i) caches.push_back(layerCacheOf(list.Get(i)));
  std::unique_ptr<erofs::Image> image;
  if (const int err = erofs::Image::open(path, image)) throw errnoError(info.Env(), err, "open '" + path + "'");
  std::shared_ptr<fuse::TreeServer> server;
  if (const int err = fuse::TreeServer::create(std::move(image), std::move(caches), server)) {
    throw errnoError(info.Env(), err, "serve '" + path + "' (its devices and the layers differ in number)");
  }
  return serve(info, server, nullptr);
}

std::shared_ptr<ServerBox> blobsServer(const Napi::CallbackInfo& info) {
  auto box = ServerHandle::get(info[0], kTag);
  if (!box->blobs) throw Napi::TypeError::New(info.Env(), "a tree server has no blobs");
  return box;
}

// (handle, name, cacheHandle, passthrough) -> nodeid
Napi::Value addBlob(const Napi::CallbackInfo& info) {
  const auto box = blobsServer(info);
  const std::string name = stringArg(info[1]);
  uint64_t node = 0;
  if (const int err = box->blobs->add(name, layerCacheOf(info[2]), boolArg(info[3]), node)) {
    throw errnoError(info.Env(), err, "add blob '" + name + "'");
  }
  return Napi::Number::New(info.Env(), static_cast<double>(node));
}

using Mode = fuse::BlobsServer::Mode;

// (handle, name, cacheHandle, nodeid, mode, backingId); mode: undecided, plain, passthrough
Napi::Value adoptBlob(const Napi::CallbackInfo& info) {
  const auto box = blobsServer(info);
  const std::string name = stringArg(info[1]);
  const std::string mode = stringArg(info[4]);
  if (mode != "undecided" && mode != "plain" && mode != "passthrough") {
    throw Napi::TypeError::New(info.Env(), "expected undecided, plain or passthrough");
  }
  const fuse::BlobsServer::Known known{
      uintArg(info[3]),
      mode == "plain" ? Mode::Plain : mode == "passthrough" ? Mode::Passthrough : Mode::Undecided,
      intArg(info[5]),
  };
  if (const int err = box->blobs->adopt(name, layerCacheOf(info[2]), known)) {
    throw errnoError(info.Env(), err, "adopt blob '" + name + "'");
  }
  return info.Env().Undefined();
}

// (handle, nodeid): nodes below it are not given to anything new
Napi::Value skipNodes(const Napi::CallbackInfo& info) {
  blobsServer(info)->blobs->skipTo(uintArg(info[1]));
  return info.Env().Undefined();
}

// (handle, name) -> { mode, backingId }
Napi::Value knownBlob(const Napi::CallbackInfo& info) {
  const auto box = blobsServer(info);
  const std::string name = stringArg(info[1]);
  fuse::BlobsServer::Known known{};
  if (const int err = box->blobs->known(name, known)) throw errnoError(info.Env(), err, "blob '" + name + "'");
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("mode", known.mode == Mode::Plain ? "plain" : known.mode == Mode::Passthrough ? "passthrough" : "undecided");
  out.Set("backingId", Napi::Number::New(info.Env(), known.backingId));
  return out;
}

// (handle): of an adopted connection, once.
Napi::Value start(const Napi::CallbackInfo& info) {
  const auto box = ServerHandle::get(info[0], kTag);
  if (!box->waits) throw Napi::TypeError::New(info.Env(), "the server was started before");
  box->waits = false;
  if (const int err = box->session->start()) throw errnoError(info.Env(), -err, "start threads");
  return info.Env().Undefined();
}

// (handle, name)
Napi::Value removeBlob(const Napi::CallbackInfo& info) {
  const auto box = blobsServer(info);
  const std::string name = stringArg(info[1]);
  if (const int err = box->session->withDevice([&](int fd) { return box->blobs->remove(fd, name); })) {
    throw errnoError(info.Env(), err, "remove blob '" + name + "'");
  }
  return info.Env().Undefined();
}

Napi::Value stats(const Napi::CallbackInfo& info) {
  const auto box = ServerHandle::get(info[0], kTag);
  const fuse::SessionStats& stats = box->session->stats();
  Napi::Object out = Napi::Object::New(info.Env());
  const auto set = [&](const char* name, uint64_t value) {
    out.Set(name, Napi::Number::New(info.Env(), static_cast<double>(value)));
  };
  set("lookups", stats.lookups);
  set("reads", stats.reads);
  set("readBytes", stats.readBytes);
  set("parked", stats.parked);
  set("waiting", box->session->waiting());
  set("errors", stats.errors);
  set("flags", box->session->agreed());
  out.Set("passthrough", Napi::Boolean::New(info.Env(), box->blobs && box->blobs->canPassthrough()));
  return out;
}

// (handle, file fd) -> "" or the name of an errno
Napi::Value tryBacking(const Napi::CallbackInfo& info) {
  const auto box = ServerHandle::get(info[0], kTag);
  const int err = box->session->tryBacking(intArg(info[1]));
  return Napi::String::New(info.Env(), err == 0 ? "" : errnoName(err));
}

// (handle, leave): onClosed follows. With `leave`, reads that wait are not answered.
Napi::Value stop(const Napi::CallbackInfo& info) {
  const auto box = ServerHandle::get(info[0], kTag);
  box->waits = false;
  // A thread of its own: those of a pool may be waiting for an answer of this very session.
  const auto end = [session = box->session, leave = boolArg(info[1])] {
    if (leave) {
      session->leave();
    } else {
      session->stop();
    }
    session->join();
  };
  try {
    std::thread(end).detach();
  } catch (const std::system_error&) {
    Pool::io().submit(end);
  }
  return info.Env().Undefined();
}

}  // namespace

void exportFuseServer(Napi::Env env, Napi::Object exports) {
  exports.Set("fuseServerBlobs", Napi::Function::New(env, blobs));
  exports.Set("fuseServerTree", Napi::Function::New(env, tree));
  exports.Set("fuseServerAddBlob", Napi::Function::New(env, addBlob));
  exports.Set("fuseServerAdoptBlob", Napi::Function::New(env, adoptBlob));
  exports.Set("fuseServerSkipNodes", Napi::Function::New(env, skipNodes));
  exports.Set("fuseServerKnownBlob", Napi::Function::New(env, knownBlob));
  exports.Set("fuseServerStart", Napi::Function::New(env, start));
  exports.Set("fuseServerRemoveBlob", Napi::Function::New(env, removeBlob));
  exports.Set("fuseServerStats", Napi::Function::New(env, stats));
  exports.Set("fuseServerTryBacking", Napi::Function::New(env, tryBacking));
  exports.Set("fuseServerStop", Napi::Function::New(env, stop));
}

}  // namespace peel
