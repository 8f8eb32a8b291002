#pragma once
#include <napi.h>

#include <cmath>
#include <cstdint>
#include <string>

namespace peel {

// Argument readers. The TypeScript faces have checked already and said what is wrong in their own words; these make
// sure that a mistake there is a TypeError and not a wild number.

inline uint64_t uintArg(Napi::Value value, uint64_t max = 9007199254740991u) {
  double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0) || number > static_cast<double>(max) || number != std::floor(number)) {
    throw Napi::TypeError::New(value.Env(), "expected a whole number from 0 to " + std::to_string(max));
  }
  return static_cast<uint64_t>(number);
}

inline uint32_t u32Arg(Napi::Value value) { return static_cast<uint32_t>(uintArg(value, 0xffffffffu)); }

inline int intArg(Napi::Value value) {
  double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(std::abs(number) <= 0x7fffffff) || number != std::floor(number)) {
    throw Napi::TypeError::New(value.Env(), "expected a 32-bit integer");
  }
  return static_cast<int>(number);
}

inline std::string stringArg(Napi::Value value) {
  if (!value.IsString()) throw Napi::TypeError::New(value.Env(), "expected a string");
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.find('\0') != std::string::npos) throw Napi::TypeError::New(value.Env(), "a string with a NUL in it");
  return text;
}

inline bool boolArg(Napi::Value value) {
  if (!value.IsBoolean()) throw Napi::TypeError::New(value.Env(), "expected a boolean");
  return value.As<Napi::Boolean>().Value();
}

inline Napi::Function functionArg(Napi::Value value) {
  if (!value.IsFunction()) throw Napi::TypeError::New(value.Env(), "expected a function");
  return value.As<Napi::Function>();
}

// The memory is JavaScript's: hold a reference to the value for as long as the pointer is used.
inline Napi::Uint8Array bytesArg(Napi::Value value) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(value.Env(), "expected a Uint8Array");
  }
  return value.As<Napi::Uint8Array>();
}

}  // namespace peel
