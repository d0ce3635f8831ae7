// GGUF's typed key-value metadata: the value types of the format and an ordered list of pairs.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "formats/base/status.h"

namespace rwkv {

/// Value types with their numbers on disk (GGUF v3).
enum class GgufType : uint32_t {
  U8 = 0,
  I8 = 1,
  U16 = 2,
  I16 = 3,
  U32 = 4,
  I32 = 5,
  F32 = 6,
  Bool = 7,
  String = 8,
  Array = 9,
  U64 = 10,
  I64 = 11,
  F64 = 12,
};
inline constexpr uint32_t kGgufTypeCount = 13;

/// One value. Numbers are widened to 64 bits in memory; `type` (and `element` for arrays) says how
/// they lie on disk. Bools are uint64_t 0 or 1 inside arrays. Arrays of arrays do not occur.
struct GgufValue {
  using Storage = std::variant<uint64_t, int64_t, double, bool, std::string, std::vector<uint64_t>,
                               std::vector<int64_t>, std::vector<double>, std::vector<std::string>>;
  GgufType type = GgufType::U32;
  GgufType element = GgufType::U32;
  Storage value;

  static GgufValue u32(uint32_t v) { return {GgufType::U32, {}, uint64_t{v}}; }
  static GgufValue u64(uint64_t v) { return {GgufType::U64, {}, v}; }
  static GgufValue f32(float v) { return {GgufType::F32, {}, double{v}}; }
  static GgufValue boolean(bool v) { return {GgufType::Bool, {}, v}; }
  static GgufValue string(std::string v) { return {GgufType::String, {}, std::move(v)}; }
  static GgufValue strings(std::vector<std::string> v) {
    return {GgufType::Array, GgufType::String, std::move(v)};
  }
  static GgufValue u64s(std::vector<uint64_t> v) {
    return {GgufType::Array, GgufType::U64, std::move(v)};
  }
  static GgufValue i32s(std::vector<int64_t> v) {
    return {GgufType::Array, GgufType::I32, std::move(v)};
  }
};

/// Pairs in file order; keys are unique.
class GgufMetadata {
 public:
  using Entry = std::pair<std::string, GgufValue>;

  /// Appends, or replaces the value of an existing key in place.
  void set(std::string key, GgufValue value);
  /// Appends a key that the caller knows to be new.
  void append_unchecked(std::string key, GgufValue value) {
    entries_.emplace_back(std::move(key), std::move(value));
  }
  const GgufValue* find(std::string_view key) const;
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  const std::vector<Entry>& entries() const { return entries_; }

  /// Typed look-ups. A missing key or another type is BadInput that names the key and the type.
  Result<uint64_t> get_u64(std::string_view key) const;
  Result<double> get_f64(std::string_view key) const;
  Result<bool> get_bool(std::string_view key) const;
  Result<std::string> get_string(std::string_view key) const;
  Result<const std::vector<std::string>*> get_strings(std::string_view key) const;
  Result<const std::vector<uint64_t>*> get_u64s(std::string_view key) const;

 private:
  std::vector<Entry> entries_;
};

/// A value as text: numbers, quoted strings, "[65536 strings]".
std::string value_to_string(const GgufValue& value);

/// ggml's tensor types that this project reads or writes, with their numbers on disk.
enum class GgmlType : uint32_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q2_K = 10,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  IQ4_NL = 20,
  IQ4_XS = 23,
  I8 = 24,
  I16 = 25,
  I32 = 26,
  I64 = 27,
  F64 = 28,
  BF16 = 30,
};

}  // namespace rwkv
