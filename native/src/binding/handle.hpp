#pragma once
#include <napi.h>

#include <memory>

namespace peel {

// A native object in JavaScript's hands: a plain object that owns a shared_ptr and carries a type tag, so that an
// object of another kind is a TypeError and not a wild pointer. The finalizer only drops the reference; whatever must
// happen in order belongs into an explicit close.
template <class T>
class Handle {
 public:
  static Napi::Object make(Napi::Env env, const napi_type_tag& tag, std::shared_ptr<T> value) {
    Napi::Object object = Napi::Object::New(env);
    auto* box = new std::shared_ptr<T>(std::move(value));
    napi_status status = napi_wrap(env, object, box, &Handle::finalize, nullptr, nullptr);
    if (status != napi_ok) {
      delete box;
      throw Napi::Error::New(env);
    }
    if (napi_type_tag_object(env, object, &tag) != napi_ok) throw Napi::Error::New(env);
    return object;
  }

  // Throws a JavaScript TypeError for anything that make() with this tag did not make, and for a closed handle.
  static std::shared_ptr<T> get(Napi::Value value, const napi_type_tag& tag) {
    std::shared_ptr<T>& box = boxOf(value, tag);
    if (!box) {
      Napi::Error error = Napi::Error::New(value.Env(), "the object is closed");
      error.Set("code", Napi::String::New(value.Env(), "ERR_CLOSED"));
      throw error;
    }
    return box;
  }

  // Empties the handle; null when it was closed before.
  static std::shared_ptr<T> take(Napi::Value value, const napi_type_tag& tag) {
    return std::exchange(boxOf(value, tag), nullptr);
  }

 private:
  static std::shared_ptr<T>& boxOf(Napi::Value value, const napi_type_tag& tag) {
    Napi::Env env = value.Env();
    bool right = false;
    void* box = nullptr;
    if (!value.IsObject() || napi_check_object_type_tag(env, value, &tag, &right) != napi_ok || !right ||
        napi_unwrap(env, value, &box) != napi_ok) {
      throw Napi::TypeError::New(env, "not the native object that this call is for");
    }
    return *static_cast<std::shared_ptr<T>*>(box);
  }

  static void finalize(napi_env, void* box, void*) { delete static_cast<std::shared_ptr<T>*>(box); }
};

}  // namespace peel
