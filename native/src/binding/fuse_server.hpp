#pragma once
#include <napi.h>

namespace peel {

void exportFuseServer(Napi::Env env, Napi::Object exports);

}  // namespace peel
