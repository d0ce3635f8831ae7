#include "formats/base/strict_json.h"

#include <set>
#include <string>
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

// The first key that an object of valid JSON has twice, as printable text of bounded length. Only
// for messages: it keeps the keys of all open objects.
std::string key_twice(std::string_view text) {
  constexpr size_t kMostBytes = 100;
  std::vector<std::set<std::string>> keys;
  std::string found;
  const auto look = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == Json::parse_event_t::key && found.empty() &&
               !keys.back().insert(value.get_ref<const std::string&>()).second) {
      found = value.dump().substr(1);
      found.pop_back();
    }
    return found.empty();
  };
  [[maybe_unused]] const Json parsed =
      Json::parse(text.begin(), text.end(), look, /*allow_exceptions=*/false);
  return found.substr(0, kMostBytes);
}

}  // namespace

Result<Json> parse_strict_json(std::string_view text) {
  RWKV_TRY(check_size(text));
  // An object that ends with fewer members than it had keys had one twice.
  std::vector<size_t> n_keys;
  bool is_twice = false;
  const auto count_keys = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) {
      n_keys.push_back(0);
    } else if (event == Json::parse_event_t::key) {
      ++n_keys.back();
    } else if (event == Json::parse_event_t::object_end) {
      is_twice = is_twice || parsed.size() != n_keys.back();
      n_keys.pop_back();
    }
    return true;
  };
  Json json = Json::parse(text.begin(), text.end(), count_keys, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    return bad_input("is not valid JSON; the file is damaged, fetch it again");
  }
  return is_twice
             ? bad_input("an object has the key '{}' twice; fetch the file again", key_twice(text))
             : Result<Json>(std::move(json));
}

}  // namespace rwkv
