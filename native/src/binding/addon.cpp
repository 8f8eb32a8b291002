#include <napi.h>

#include "binding/acceptor.hpp"
#include "binding/fd_messages.hpp"
#include "binding/fuse_server.hpp"
#include "binding/layer_cache.hpp"
#include "binding/loop.hpp"
#include "binding/mounts.hpp"
#include "binding/stream_indexer.hpp"
#include "binding/sys.hpp"
#include "binding/tree_extents.hpp"
#include "binding/tree_writer.hpp"
#include "sys/memory_shortage.hpp"

namespace {

// One line per component. Everything is a function on handles; the classes are TypeScript's (src/native).
Napi::Object init(Napi::Env env, Napi::Object exports) {
  peel::MemoryShortage::watch();
  peel::JsLoop::of(env);
  peel::exportAcceptor(env, exports);
  peel::exportLayerCache(env, exports);
  peel::exportFdMessages(env, exports);
  peel::exportFuseServer(env, exports);
  peel::exportMounts(env, exports);
  peel::exportSys(env, exports);
  peel::exportStreamIndexer(env, exports);
  peel::exportTreeExtents(env, exports);
  peel::exportTreeWriter(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(peel, init)
