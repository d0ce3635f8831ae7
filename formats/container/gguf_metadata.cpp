#include "formats/container/gguf_metadata.h"

#include "formats/base/printable.h"

namespace rwkv {

void GgufMetadata::set(std::string key, GgufValue value) {
  for (Entry& entry : entries_) {
    if (entry.first == key) {
      entry.second = std::move(value);
      return;
    }
  }
  entries_.emplace_back(std::move(key), std::move(value));
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  for (const Entry& entry : entries_) {
    if (entry.first == key) {
      return &entry.second;
    }
  }
  return nullptr;
}

namespace {

// The value of `key` if it is stored as T.
template <typename T>
Result<const T*> typed(const GgufMetadata& metadata, std::string_view key, const char* expected) {
  const GgufValue* value = metadata.find(key);
  if (!value) {
    return bad_input(
        "metadata lacks the key '{}', expected {}; the file is of another program or damaged, "
        "fetch it again",
        key, expected);
  }
  if (const T* found = std::get_if<T>(&value->value)) {
    return found;
  }
  return bad_input(
      "metadata key '{}' is {}, expected {}; the file is of another program or damaged, fetch it "
      "again",
      key, value_to_string(*value), expected);
}

}  // namespace

Result<uint64_t> GgufMetadata::get_u64(std::string_view key) const {
  RWKV_ASSIGN(const uint64_t* value, typed<uint64_t>(*this, key, "an unsigned integer"));
  return *value;
}

Result<double> GgufMetadata::get_f64(std::string_view key) const {
  RWKV_ASSIGN(const double* value, typed<double>(*this, key, "a float"));
  return *value;
}

Result<bool> GgufMetadata::get_bool(std::string_view key) const {
  RWKV_ASSIGN(const bool* value, typed<bool>(*this, key, "a bool"));
  return *value;
}

Result<std::string> GgufMetadata::get_string(std::string_view key) const {
  RWKV_ASSIGN(const std::string* value, typed<std::string>(*this, key, "a string"));
  return *value;
}

Result<const std::vector<std::string>*> GgufMetadata::get_strings(std::string_view key) const {
  return typed<std::vector<std::string>>(*this, key, "an array of strings");
}

Result<const std::vector<uint64_t>*> GgufMetadata::get_u64s(std::string_view key) const {
  return typed<std::vector<uint64_t>>(*this, key, "an array of unsigned integers");
}

namespace {

constexpr size_t kShownString = 120;

struct ToText {
  std::string operator()(uint64_t v) const { return fmt::format("{}", v); }
  std::string operator()(int64_t v) const { return fmt::format("{}", v); }
  std::string operator()(double v) const { return fmt::format("{}", v); }
  std::string operator()(bool v) const { return v ? "true" : "false"; }
  std::string operator()(const std::string& v) const {
    return fmt::format("\"{}\"", printable(v, kShownString));
  }
  template <typename T>
  std::string operator()(const std::vector<T>& v) const {
    constexpr size_t kShown = 6;
    if (std::is_same_v<T, std::string> || v.size() > kShown) {
      return fmt::format("[{} {}]", v.size(),
                         std::is_same_v<T, std::string> ? "strings" : "numbers");
    }
    return fmt::format("[{}]", fmt::join(v, ", "));
  }
};

}  // namespace

std::string value_to_string(const GgufValue& value) {
  return std::visit(ToText{}, value.value);
}

}  // namespace rwkv
