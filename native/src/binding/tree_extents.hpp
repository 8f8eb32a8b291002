#pragma once
#include <napi.h>

namespace peel {

void exportTreeExtents(Napi::Env env, Napi::Object exports);

}  // namespace peel
