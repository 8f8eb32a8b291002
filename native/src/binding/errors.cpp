#include "binding/errors.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace peel {

const char* errnoName(int err) {
  const char* name = ::strerrorname_np(std::abs(err));
  return name ? name : "EIO";
}

int errnoOfName(const std::string& name) {
  for (int err = 1; err < 256; err++) {
    const char* known = ::strerrorname_np(err);
    if (known && name == known) return err;
  }
  return 0;
}

Napi::Error codedError(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

Napi::Error errnoError(Napi::Env env, int err, const std::string& syscall) {
  const char* name = errnoName(err);
  // Numbers that only the kernel knows (ENOTSUPP) have neither name nor text.
  const char* text = ::strerrordesc_np(std::abs(err));
  const std::string what = text ? text : "error " + std::to_string(std::abs(err));
  Napi::Error error = codedError(env, name, std::string(name) + ": " + what + ", " + syscall);
  error.Set("errno", Napi::Number::New(env, -std::abs(err)));
  error.Set("syscall", Napi::String::New(env, syscall));
  return error;
}

}  // namespace peel
