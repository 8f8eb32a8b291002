#pragma once
#include <napi.h>

namespace peel {

void exportStreamIndexer(Napi::Env env, Napi::Object exports);

}  // namespace peel
