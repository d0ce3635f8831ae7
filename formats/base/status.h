// Errors as values. Everything in `formats` and `runtime` reports through Status or Result<T>;
// nothing there throws, prints, exits or aborts. A message is one line that names the file and the
// object in it, and says what was expected, what was found and, if possible, what to do.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <type_traits>
#include <utility>
#include <variant>

namespace rwkv {

/// Why something failed. The numbers are the exit codes of the command line tools.
enum class Code : int {
  Ok = 0,
  Failed = 1,       ///< the work itself failed: I/O, no space, out of memory, interrupted
  Usage = 2,        ///< the request is invalid
  BadInput = 3,     ///< an input file or text is damaged, hostile or of the wrong kind
  QualityGate = 4,  ///< the result misses a required quality limit
};

/// Success, or a code with a one-line message.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::Ok; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

  /// The same failure, its message prefixed by `context` (a file, a tensor): "context: message".
  Status in(const std::string& context) const {
    return ok() ? *this : Status(code_, context + ": " + message_);
  }

 private:
  Code code_ = Code::Ok;
  std::string message_;
};

template <typename... Args>
Status failed(fmt::format_string<Args...> format, Args&&... args) {
  return {Code::Failed, fmt::format(format, std::forward<Args>(args)...)};
}
template <typename... Args>
Status usage_error(fmt::format_string<Args...> format, Args&&... args) {
  return {Code::Usage, fmt::format(format, std::forward<Args>(args)...)};
}
template <typename... Args>
Status bad_input(fmt::format_string<Args...> format, Args&&... args) {
  return {Code::BadInput, fmt::format(format, std::forward<Args>(args)...)};
}

/// A value, or the Status that says why there is none. `value()` may be called only if `ok()`.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Result(Status status) : state_(std::move(status)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return std::holds_alternative<T>(state_); }
  Status status() const { return ok() ? Status() : std::get<Status>(state_); }
  T& value() { return std::get<T>(state_); }
  const T& value() const { return std::get<T>(state_); }
  T take() { return std::move(std::get<T>(state_)); }

 private:
  std::variant<Status, T> state_;
};

}  // namespace rwkv

#define RWKV_CONCAT_INNER(a, b) a##b
#define RWKV_CONCAT(a, b) RWKV_CONCAT_INNER(a, b)

/// Returns from the enclosing function if `expr` (a Status) is an error.
#define RWKV_TRY(expr)                                  \
  do {                                                  \
    if (auto rwkv_status = (expr); !rwkv_status.ok()) { \
      return rwkv_status;                               \
    }                                                   \
  } while (false)

/// `RWKV_ASSIGN(auto x, f())` unwraps a Result or returns its Status from the enclosing function.
#define RWKV_ASSIGN(decl, expr) RWKV_ASSIGN_INNER(RWKV_CONCAT(rwkv_result_, __LINE__), decl, expr)
#define RWKV_ASSIGN_INNER(result, decl, expr) \
  auto result = (expr);                       \
  if (!result.ok()) {                         \
    return result.status();                   \
  }                                           \
  decl = result.take()
