#pragma once
#include <napi.h>

namespace peel {

void exportMounts(Napi::Env env, Napi::Object exports);

}  // namespace peel
