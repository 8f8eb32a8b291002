#include "binding/tree_writer.hpp"

#include <cerrno>

#include "apply/tree_writer.hpp"
#include "binding/args.hpp"
#include "binding/errors.hpp"
#include "binding/handle.hpp"
#include "binding/path_arg.hpp"
#include "binding/question.hpp"

namespace peel {
namespace {

constexpr napi_type_tag kTag = {0x7065656c54726565u, 0x5772697465720001u};
using WriterHandle = Handle<TreeWriter>;

void check(Napi::Env env, const TreeWriter::Failure& failure) {
  if (failure.err == ECANCELED) throw codedError(env, "ERR_CLOSED", "the tree writer is closed");
  if (failure.err != 0) throw errnoError(env, failure.err, failure.what);
}

// One that is open and has not failed.
std::shared_ptr<TreeWriter> workingWriter(Napi::Value handle) {
  auto writer = WriterHandle::get(handle, kTag);
  if (writer->closed()) check(handle.Env(), {ECANCELED, ""});
  check(handle.Env(), writer->failure());
  return writer;
}

// (dir, ownership) -> handle
Napi::Value open(const Napi::CallbackInfo& info) {
  const std::string dir = pathArg(info[0]);
  const std::string ownership = stringArg(info[1]);
  if (ownership != "entries" && ownership != "mine") {
    throw Napi::TypeError::New(info.Env(), "ownership is 'entries' or 'mine'");
  }
  std::shared_ptr<TreeWriter> writer;
  if (const int err = TreeWriter::open(dir, ownership == "mine" ? Ownership::Mine : Ownership::Entries, writer)) {
    throw errnoError(info.Env(), err, "open '" + dir + "'");
  }
  return WriterHandle::make(info.Env(), kTag, std::move(writer));
}

// (handle, stream, fd)
Napi::Value addStream(const Napi::CallbackInfo& info) {
  auto writer = workingWriter(info[0]);
  const uint32_t stream = u32Arg(info[1]);
  if (const int err = writer->streams().add(stream, intArg(info[2]))) {
    throw errnoError(info.Env(), err, "add stream " + std::to_string(stream));
  }
  return info.Env().Undefined();
}

// (handle, stream, offset)
Napi::Value advance(const Napi::CallbackInfo& info) {
  auto writer = workingWriter(info[0]);
  const uint32_t stream = u32Arg(info[1]);
  if (const int err = writer->streams().advance(stream, uintArg(info[2]))) {
    throw errnoError(info.Env(), err, "advance stream " + std::to_string(stream));
  }
  return info.Env().Undefined();
}

// (handle, operations): copied, so that the caller may use the memory again at once.
Napi::Value submit(const Napi::CallbackInfo& info) {
  auto writer = workingWriter(info[0]);
  auto bytes = bytesArg(info[1]);
  writer->submit(std::vector<uint8_t>(bytes.Data(), bytes.Data() + bytes.ByteLength()));
  return info.Env().Undefined();
}

// (handle) -> [operations, stream bytes, skipped devices, skipped attributes]; also of a closed one
Napi::Value counts(const Napi::CallbackInfo& info) {
  auto writer = WriterHandle::get(info[0], kTag);
  auto out = Napi::Float64Array::New(info.Env(), 4);
  out[0] = static_cast<double>(writer->ops());
  out[1] = static_cast<double>(writer->streams().copied());
  out[2] = static_cast<double>(writer->runner().skippedDevices());
  out[3] = static_cast<double>(writer->runner().skippedXattrs());
  return out;
}

// (handle) -> Promise<void>
Napi::Value finish(const Napi::CallbackInfo& info) {
  auto writer = workingWriter(info[0]);
  auto* question = new Question<TreeWriter::Failure>(info.Env());
  Napi::Promise promise = question->deferred.Promise();
  writer->finish([question](const TreeWriter::Failure& failure) {
    question->answer(failure, [](Napi::Env env, const TreeWriter::Failure& failure) -> Napi::Value {
      check(env, failure);
      return env.Undefined();
    });
  });
  return promise;
}

// (handle) -> Promise<void>: the thread has ended.
Napi::Value close(const Napi::CallbackInfo& info) {
  auto writer = WriterHandle::get(info[0], kTag);
  writer->stop();
  return JsLoop::of(info.Env())->run(
      info.Env(), Pool::io(), [writer] { writer->close(); },
      [](Napi::Env env) -> Napi::Value { return env.Undefined(); });
}

}  // namespace

void exportTreeWriter(Napi::Env env, Napi::Object exports) {
  const std::pair<const char*, Napi::Value (*)(const Napi::CallbackInfo&)> functions[] = {
      {"treeWriterOpen", open},     {"treeWriterAddStream", addStream}, {"treeWriterAdvance", advance},
      {"treeWriterSubmit", submit}, {"treeWriterCounts", counts},       {"treeWriterFinish", finish},
      {"treeWriterClose", close},
  };
  for (auto [name, function] : functions) exports.Set(name, Napi::Function::New(env, function, name));
}

}  // namespace peel
