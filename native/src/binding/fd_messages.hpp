#pragma once
#include <napi.h>

namespace peel {

void exportFdMessages(Napi::Env env, Napi::Object exports);

}  // namespace peel
