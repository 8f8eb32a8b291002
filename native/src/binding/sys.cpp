#include "binding/sys.hpp"

#include <errno.h>
#include <fcntl.h>

#include "binding/args.hpp"
#include "binding/errors.hpp"
#include "binding/handle.hpp"
#include "binding/loop.hpp"
#include "binding/path_arg.hpp"
#include "cache/span_sum.hpp"
#include "gzip/sha256.hpp"
#include "sys/capabilities.hpp"
#include "sys/clock.hpp"
#include "sys/fd.hpp"
#include "sys/files.hpp"
#include "sys/listen_unix.hpp"
#include "sys/memory_shortage.hpp"
#include "sys/resident_file.hpp"

namespace peel {
namespace {

void check(Napi::Env env, int err, const std::string& what) {
  if (err != 0) throw errnoError(env, err, what);
}

// (fd, exclusive) -> boolean: false when another holds it
Napi::Value lock(const Napi::CallbackInfo& info) {
  const int err = tryLockFile(intArg(info[0]), boolArg(info[1]));
  if (err == -EWOULDBLOCK) return Napi::Boolean::New(info.Env(), false);
  check(info.Env(), err, "flock");
  return Napi::Boolean::New(info.Env(), true);
}

Napi::Value unlock(const Napi::CallbackInfo& info) {
  check(info.Env(), unlockFile(intArg(info[0])), "flock");
  return info.Env().Undefined();
}

// (path, mode, major, minor)
Napi::Value mknod(const Napi::CallbackInfo& info) {
  const std::string path = pathArg(info[0]);
  check(info.Env(), makeNode(path, u32Arg(info[1]), u32Arg(info[2]), u32Arg(info[3])), "mknod '" + path + "'");
  return info.Env().Undefined();
}

// (path, name) -> Buffer
Napi::Value getxattr(const Napi::CallbackInfo& info) {
  const std::string path = pathArg(info[0]);
  std::vector<uint8_t> value;
  check(info.Env(), getXattr(path, pathArg(info[1]), value), "lgetxattr '" + path + "'");
  return Napi::Buffer<uint8_t>::Copy(info.Env(), value.data(), value.size());
}

// (path, name, value)
Napi::Value setxattr(const Napi::CallbackInfo& info) {
  const std::string path = pathArg(info[0]);
  const Napi::Uint8Array value = bytesArg(info[2]);
  check(info.Env(), setXattr(path, pathArg(info[1]), value.Data(), value.ByteLength()), "lsetxattr '" + path + "'");
  return info.Env().Undefined();
}

// (path) -> Buffer[]
Napi::Value listxattr(const Napi::CallbackInfo& info) {
  const std::string path = pathArg(info[0]);
  std::vector<std::string> names;
  check(info.Env(), listXattrs(path, names), "llistxattr '" + path + "'");
  Napi::Array out = Napi::Array::New(info.Env(), names.size());
  for (uint32_t i = 0; i < names.size(); ++i) {
    out.Set(i, Napi::Buffer<char>::Copy(info.Env(), names[i].data(), names[i].size()));
  }
  return out;
}

// (path, seconds, nanoseconds); seconds may be negative
Napi::Value utimens(const Napi::CallbackInfo& info) {
  const std::string path = pathArg(info[0]);
  const int64_t seconds = info[1].ToNumber().Int64Value();
  check(info.Env(), setTimes(path, seconds, static_cast<uint32_t>(uintArg(info[2], 999999999))),
        "utimensat '" + path + "'");
  return info.Env().Undefined();
}

// (path) -> { type, freeBytes, totalBytes }
Napi::Value statfs(const Napi::CallbackInfo& info) {
  const std::string path = pathArg(info[0]);
  FsStat stat;
  check(info.Env(), statFs(path, stat), "statfs '" + path + "'");
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("type", Napi::Number::New(info.Env(), static_cast<double>(stat.type)));
  out.Set("freeBytes", Napi::Number::New(info.Env(), static_cast<double>(stat.freeBytes)));
  out.Set("totalBytes", Napi::Number::New(info.Env(), static_cast<double>(stat.totalBytes)));
  return out;
}

Napi::Value directIo(const Napi::CallbackInfo& info) {
  const std::string path = pathArg(info[0]);
  bool can = false;
  check(info.Env(), canDirectIo(path, can), "open '" + path + "'");
  return Napi::Boolean::New(info.Env(), can);
}

Napi::Value undumpable(const Napi::CallbackInfo& info) {
  check(info.Env(), makeUndumpable(), "prctl");
  return info.Env().Undefined();
}

// -> bigint
Napi::Value bounding(const Napi::CallbackInfo& info) { return Napi::BigInt::New(info.Env(), boundingSet()); }

// (keep: bigint)
Napi::Value limitBounding(const Napi::CallbackInfo& info) {
  if (!info[0].IsBigInt()) throw Napi::TypeError::New(info.Env(), "expected a bigint");
  bool lossless = false;
  const uint64_t keep = info[0].As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) throw Napi::TypeError::New(info.Env(), "expected at most 64 bits");
  check(info.Env(), limitBoundingSet(keep), "prctl");
  return info.Env().Undefined();
}

Napi::Value trim(const Napi::CallbackInfo& info) {
  trimHeap();
  return info.Env().Undefined();
}

// () -> ms since somebody got no memory, or -1
Napi::Value memoryShortage(const Napi::CallbackInfo& info) {
  const int64_t at = MemoryShortage::lastAt();
  return Napi::Number::New(info.Env(), at == 0 ? -1 : static_cast<double>((monotonicNs() - at) / 1'000'000));
}

Napi::Value noteMemoryShortage(const Napi::CallbackInfo& info) {
  MemoryShortage::note();
  return info.Env().Undefined();
}

// (address, text)
Napi::Value notify(const Napi::CallbackInfo& info) {
  check(info.Env(), sendNotify(stringArg(info[0]), stringArg(info[1])), "sendto");
  return info.Env().Undefined();
}

// (path) -> fd
Napi::Value listenSocket(const Napi::CallbackInfo& info) {
  const std::string path = stringArg(info[0]);
  Fd fd;
  check(info.Env(), listenUnix(path, fd), "listen on '" + path + "'");
  return Napi::Number::New(info.Env(), fd.release());
}

// (path, words, fds): does not return
Napi::Value execute(const Napi::CallbackInfo& info) {
  const std::string path = pathArg(info[0]);
  if (!info[2].IsArray()) throw Napi::TypeError::New(info.Env(), "expected an array");
  const Napi::Array array = info[2].As<Napi::Array>();
  std::vector<int> fds;
  for (uint32_t i = 0; i < array.Length(); ++i) fds.push_back(intArg(array.Get(i)));
  check(info.Env(), executeProgram(path, stringsArg(info[1]), fds), "execve '" + path + "'");
  return info.Env().Undefined();
}

// (path) -> Promise<void>
Napi::Value syncfs(const Napi::CallbackInfo& info) {
  const std::string path = pathArg(info[0]);
  auto err = std::make_shared<int>(0);
  return JsLoop::of(info.Env())->run(
      info.Env(), Pool::io(), [err, path] { *err = syncFs(path); },
      [err, path](Napi::Env env) -> Napi::Value {
        check(env, *err, "syncfs '" + path + "'");
        return env.Undefined();
      },
      {}, JsLoop::AtEnd::Abandon);
}

// (fd, start, end) -> Promise<sha256 of the file's bytes [start, end)>
Napi::Value hashRange(const Napi::CallbackInfo& info) {
  struct State {
    Fd fd;
    Sha256Digest digest{};
    int err = 0;
  };
  auto state = std::make_shared<State>();
  // The caller may close his meanwhile, and its number may become another file's.
  state->fd = Fd(::fcntl(intArg(info[0]), F_DUPFD_CLOEXEC, 0));
  if (!state->fd.valid()) throw errnoError(info.Env(), errno, "fcntl");
  const uint64_t start = uintArg(info[1]), end = uintArg(info[2]);
  return JsLoop::of(info.Env())->run(
      info.Env(), Pool::io(),
      [state, start, end] {
        Sha256 hash;
        state->err = readRange(state->fd.get(), start, end, [&hash](const uint8_t* bytes, size_t length) {
          hash.update(bytes, length);
        });
        state->digest = hash.finish();
      },
      [state](Napi::Env env) -> Napi::Value {
        check(env, state->err, "read");
        return Napi::Buffer<uint8_t>::Copy(env, state->digest.data(), state->digest.size());
      });
}

constexpr napi_type_tag kResidentTag = {0x7065656c52657369u, 0x64656e7446696c01u};
using ResidentHandle = Handle<ResidentFile>;

// (path, limit) -> Promise<handle>
Napi::Value mapResident(const Napi::CallbackInfo& info) {
  const std::string path = pathArg(info[0]);
  const auto limit = static_cast<size_t>(uintArg(info[1]));
  struct State {
    std::shared_ptr<ResidentFile> file;
    int err = 0;
  };
  auto state = std::make_shared<State>();
  return JsLoop::of(info.Env())->run(
      info.Env(), Pool::io(),
      [state, path, limit] {
        state->err = ResidentFile::open(path, limit, state->file);
        if (state->err == 0) state->err = state->file->populate();
      },
      [state, path](Napi::Env env) -> Napi::Value {
        check(env, state->err, "mmap '" + path + "'");
        return ResidentHandle::make(env, kResidentTag, std::move(state->file));
      });
}

// (handle): idempotent
Napi::Value unmapResident(const Napi::CallbackInfo& info) {
  ResidentHandle::take(info[0], kResidentTag);
  return info.Env().Undefined();
}

}  // namespace

void exportSys(Napi::Env env, Napi::Object exports) {
  exports.Set("sysLock", Napi::Function::New(env, lock));
  exports.Set("sysUnlock", Napi::Function::New(env, unlock));
  exports.Set("sysMknod", Napi::Function::New(env, mknod));
  exports.Set("sysGetxattr", Napi::Function::New(env, getxattr));
  exports.Set("sysSetxattr", Napi::Function::New(env, setxattr));
  exports.Set("sysListxattr", Napi::Function::New(env, listxattr));
  exports.Set("sysUtimens", Napi::Function::New(env, utimens));
  exports.Set("sysStatfs", Napi::Function::New(env, statfs));
  exports.Set("sysHashRange", Napi::Function::New(env, hashRange));
  exports.Set("sysSyncfs", Napi::Function::New(env, syncfs));
  exports.Set("sysCanDirectIo", Napi::Function::New(env, directIo));
  exports.Set("sysUndumpable", Napi::Function::New(env, undumpable));
  exports.Set("sysBoundingSet", Napi::Function::New(env, bounding));
  exports.Set("sysLimitBoundingSet", Napi::Function::New(env, limitBounding));
  exports.Set("sysTrimHeap", Napi::Function::New(env, trim));
  exports.Set("sysMemoryShortage", Napi::Function::New(env, memoryShortage));
  exports.Set("sysNoteMemoryShortage", Napi::Function::New(env, noteMemoryShortage));
  exports.Set("sysMapResident", Napi::Function::New(env, mapResident));
  exports.Set("sysUnmapResident", Napi::Function::New(env, unmapResident));
  exports.Set("sysExecute", Napi::Function::New(env, execute));
  exports.Set("sysNotify", Napi::Function::New(env, notify));
  exports.Set("sysListenUnix", Napi::Function::New(env, listenSocket));
}

}  // namespace peel
