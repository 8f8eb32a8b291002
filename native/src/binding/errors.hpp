#pragma once
#include <napi.h>

#include <string>

namespace peel {

// Error with `code` 'ENOENT'.., `errno` (negative, as Node has it) and `syscall`. `err` is -errno or errno.
Napi::Error errnoError(Napi::Env env, int err, const std::string& syscall);
// Error with a code of our own.
Napi::Error codedError(Napi::Env env, const char* code, const std::string& message);
const char* errnoName(int err);
int errnoOfName(const std::string& name);  // 0 when unknown

}  // namespace peel
