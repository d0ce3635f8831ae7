// Integers and floats as they lie on disk: little endian, at any alignment. All file formats read
// and write numbers through these, never through pointer casts.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace rwkv {

static_assert(std::endian::native == std::endian::little,
              "all supported targets are little endian; a big-endian port starts in this file");

/// Reads a T from `from`, which needs no alignment and must hold sizeof(T) bytes.
template <typename T>
T load_le(const std::byte* from) {
  static_assert(std::is_arithmetic_v<T>);
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

/// Writes `value` to `to`, which needs no alignment and must hold sizeof(T) bytes.
template <typename T>
void store_le(std::byte* to, T value) {
  static_assert(std::is_arithmetic_v<T>);
  std::memcpy(to, &value, sizeof(T));
}

/// a * b without overflow; false if the product does not fit.
inline bool checked_mul(uint64_t a, uint64_t b, uint64_t& out) {
  return !__builtin_mul_overflow(a, b, &out);
}

/// a + b without overflow; false if the sum does not fit.
inline bool checked_add(uint64_t a, uint64_t b, uint64_t& out) {
  return !__builtin_add_overflow(a, b, &out);
}

/// The next multiple of `alignment` (a power of two) that is >= value.
constexpr uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

}  // namespace rwkv
