#pragma once
#include <napi.h>

#include <string>

#include "binding/args.hpp"

namespace peel {

/** A path or name: text, or its bytes where it may not be UTF-8. */
inline std::string pathArg(Napi::Value value) {
  if (value.IsString()) return stringArg(value);
  const Napi::Uint8Array bytes = bytesArg(value);
  std::string path(reinterpret_cast<const char*>(bytes.Data()), bytes.ByteLength());
  if (path.find('\0') != std::string::npos) throw Napi::TypeError::New(value.Env(), "a path with a NUL in it");
  return path;
}

inline std::vector<std::string> stringsArg(Napi::Value value) {
  if (!value.IsArray()) throw Napi::TypeError::New(value.Env(), "expected an array");
  auto list = value.As<Napi::Array>();
  std::vector<std::string> out;
  for (uint32_t i = 0; i < list.Length(); ++i) out.push_back(stringArg(list.Get(i)));
  return out;
}

}  // namespace peel
