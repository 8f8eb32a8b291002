#include "binding/tree_extents.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "binding/errors.hpp"
#include "binding/loop.hpp"
#include "binding/path_arg.hpp"
#include "tree/stream_extents.hpp"

namespace peel {
namespace {

// (path) -> Promise<Float64Array[]>
Napi::Value treeExtents(const Napi::CallbackInfo& info) {
  const std::string path = pathArg(info[0]);
  struct State {
    std::vector<std::vector<double>> extents;
    int err = 0;
  };
  auto state = std::make_shared<State>();
  return JsLoop::of(info.Env())->run(
      info.Env(), Pool::io(),
      [state, path] {
        std::unique_ptr<erofs::Image> image;
        state->err = erofs::Image::open(path, image);
        if (state->err == 0) state->err = erofs::streamExtents(*image, state->extents);
      },
      [state, path](Napi::Env env) -> Napi::Value {
        if (state->err != 0) throw errnoError(env, state->err, "tree '" + path + "'");
        Napi::Array out = Napi::Array::New(env, state->extents.size());
        for (uint32_t i = 0; i < state->extents.size(); ++i) {
          const std::vector<double>& from = state->extents[i];
          Napi::Float64Array to = Napi::Float64Array::New(env, from.size());
          std::copy(from.begin(), from.end(), to.Data());
          out.Set(i, to);
        }
        return out;
      });
}

}  // namespace

void exportTreeExtents(Napi::Env env, Napi::Object exports) {
  exports.Set("treeExtents", Napi::Function::New(env, treeExtents));
}

}  // namespace peel
