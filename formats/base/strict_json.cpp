#include "formats/base/strict_json.h"

#include <vector>

namespace rwkv {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxContainers = size_t{1} << 18;
constexpr size_t kMaxValues = size_t{1} << 20;

// Counts brackets and commas outside of strings, before anything is allocated for them.
Status check_size(std::string_view text) {
  size_t depth = 0;
  size_t n_containers = 0;
  size_t n_values = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      i += c == '\\' ? 1 : 0;
      in_string = c != '"';
      continue;
    }
    in_string = c == '"';
    const bool begins = c == '{' || c == '[';
    depth += begins ? 1 : 0;
    depth -= (c == '}' || c == ']') && depth > 0 ? 1 : 0;
    n_containers += begins ? 1 : 0;
    n_values += begins || c == ',' ? 1 : 0;
    if (depth > kMaxDepth || n_containers > kMaxContainers || n_values > kMaxValues) {
      return bad_input(
          "JSON with more than {} levels, {} objects and arrays, or {} values, found {}, {} and {} "
          "up to byte {}; the file is damaged, fetch it again",
          kMaxDepth, kMaxContainers, kMaxValues, depth, n_containers, n_values, i);
    }
  }
  return {};
}

}  // namespace

Result<Json> parse_strict_json(std::string_view text) {
  RWKV_TRY(check_size(text));
  // An object that ends with fewer members than it had keys had one twice.
  std::vector<size_t> n_keys;
  std::string twice;
  std::string last_key;
  const auto count_keys = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) {
      n_keys.push_back(0);
    } else if (event == Json::parse_event_t::key) {
      ++n_keys.back();
      last_key = parsed.get_ref<const std::string&>();
    } else if (event == Json::parse_event_t::object_end) {
      if (parsed.size() != n_keys.back() && twice.empty()) {
        twice = fmt::format("an object of {} keys, the last of them '{}', has one of them twice",
                            n_keys.back(), last_key);
      }
      n_keys.pop_back();
    }
    return true;
  };
  Json json = Json::parse(text.begin(), text.end(), count_keys, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    return bad_input("is not valid JSON; the file is damaged, fetch it again");
  }
  return twice.empty() ? Result<Json>(std::move(json))
                       : bad_input("{}; fetch the file again", twice);
}

}  // namespace rwkv
