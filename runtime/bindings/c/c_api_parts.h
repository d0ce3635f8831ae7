// What the files of the C API share: the objects behind its handles, and the way from a Status to a
// code and a text.
#pragma once

#include <exception>
#include <memory>
#include <new>
#include <string>
#include <string_view>

#include "formats/base/printable.h"
#include "runtime/text/session.h"
#include "rwkv_edge.h"

// RWKV_TRY declares a variable whose name is a type here.
#pragma GCC diagnostic ignored "-Wshadow"

struct rwkv_model {
  std::shared_ptr<const rwkv::edge::Model> model;
  std::string version;
  int32_t end_of_text;
};

struct rwkv_session {
  std::unique_ptr<rwkv::edge::Session> session;
};

namespace rwkv::edge::c_api {

inline constexpr size_t kErrorBytes = 1024;
/// Keeps a text for rwkv_last_error(); longer ones are cut.
void remember(std::string_view message);
rwkv_status status_of(Code code);

/// Runs `work`, which returns a Status; no exception escapes.
template <typename Work>
rwkv_status guarded(const char* function, const Work& work) {
  try {
    const Status status = work();
    if (!status.ok()) {
      remember(printable(status.in(function).message(), kErrorBytes));
    }
    return status_of(status.code());
  } catch (const std::bad_alloc&) {
    remember("out of memory");
  } catch (const std::exception& error) {
    remember(error.what());
  } catch (...) {
    remember("the callback threw something that is not an exception");
  }
  return RWKV_FAILED;
}

/// Usage if `pointer` is NULL.
inline Status needs(const void* pointer, const char* name) {
  return pointer ? Status() : usage_error("{} is NULL", name);
}

/// For arrays, which may be NULL if they are empty.
inline Status needs(const void* pointer, size_t n, const char* name) {
  return n == 0 ? Status() : needs(pointer, name);
}

/// `field(object)`; 0 if the object is NULL.
template <typename Object, typename Field>
auto field_of(const char* function, const Object* object, const Field& field) {
  decltype(field(object)) value{};
  guarded(function, [&]() -> Status {
    RWKV_TRY(needs(object, "the handle"));
    value = field(object);
    return {};
  });
  return value;
}

inline std::string_view view(const char* text, size_t n) {
  return n == 0 ? std::string_view() : std::string_view(text, n);
}

}  // namespace rwkv::edge::c_api
