#pragma once
#include <napi.h>

namespace peel {

void exportAcceptor(Napi::Env env, Napi::Object exports);

}  // namespace peel
