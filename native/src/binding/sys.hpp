#pragma once
#include <napi.h>

namespace peel {

void exportSys(Napi::Env env, Napi::Object exports);

}  // namespace peel
