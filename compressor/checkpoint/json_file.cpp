#include "compressor/checkpoint/json_file.h"

#include "formats/base/file.h"

namespace rwkv::press {
namespace {

constexpr int kMaxDepth = 32;

// The deepest nesting of brackets outside of strings.
int depth_of(const std::string& text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      i += c == '\\' ? 1 : 0;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

Result<nlohmann::json> read_json_file(const std::string& path, uint64_t max_bytes) {
  RWKV_ASSIGN(const std::string text, read_text_file(path, max_bytes));
  if (const int depth = depth_of(text); depth > kMaxDepth) {
    return bad_input("{}: nests {} levels deep, at most {} are accepted", path, depth, kMaxDepth);
  }
  nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) {
    return bad_input("{}: expected a JSON object, found {}; the file is damaged, fetch it again",
                     path, json.is_discarded() ? "invalid JSON" : json.type_name());
  }
  return json;
}

}  // namespace rwkv::press
