#pragma once
#include <napi.h>

#include <memory>

#include "cache/layer_cache.hpp"

namespace peel {

// The cache behind the native handle of a TypeScript LayerCache; throws a JavaScript error for anything else.
std::shared_ptr<LayerCache> layerCacheOf(Napi::Value handle);

void exportLayerCache(Napi::Env env, Napi::Object exports);

}  // namespace peel
