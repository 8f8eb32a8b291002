#pragma once
#include <napi.h>

namespace peel {

void exportTreeWriter(Napi::Env env, Napi::Object exports);

}  // namespace peel
