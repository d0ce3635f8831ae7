#include "compressor/sweep/received.h"

#include <algorithm>
#include <filesystem>
#include <functional>

#include "compressor/sweep/points.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

constexpr size_t kHashDigits = 16;
constexpr size_t kLeastDigits = 4;
constexpr size_t kMostDigits = 9;
// An ablation and references come on top of what axes make.
constexpr size_t kMostPoints = 2 * kMaxSweepPoints;

using Check = std::function<bool(const Json&)>;

bool is_text(const Json& value) {
  return value.is_string();
}
bool is_number(const Json& value) {
  return value.is_number() || value.is_null();  // null is how JSON writes what is not finite
}
bool is_object(const Json& value) {
  return value.is_object();
}
bool is_id(const Json& value) {
  return value.is_string() && is_point_id(value.get_ref<const std::string&>());
}

// One field of an object: `name` says which object in messages, `expected` what it must be.
Status check_field(const Json& object, const std::string& name, const char* key, const Check& fits,
                   const char* expected) {
  const auto found = object.find(key);
  const std::string field = name.empty() ? key : fmt::format("{}.{}", name, key);
  if (found == object.end()) {
    return bad_input("'{}' is missing; expected {}", field, expected);
  }
  if (!fits(*found)) {
    const std::string text = found->dump(-1, ' ', false, Json::error_handler_t::replace);
    return bad_input("'{}': expected {}, found {}", field, expected, text.substr(0, 100));
  }
  return {};
}

Status check_objects(const Json& root, const char* key,
                     Status (*check)(const Json& object, const std::string& name)) {
  const auto is_short_list = [](const Json& list) {
    return list.is_array() && list.size() <= kMostPoints;
  };
  RWKV_TRY(check_field(root, "", key, is_short_list, "a list of at most 4000"));
  for (size_t i = 0; i < root[key].size(); ++i) {
    const std::string name = fmt::format("{}[{}]", key, i);
    if (!root[key][i].is_object()) {
      return bad_input("'{}': expected a map", name);
    }
    RWKV_TRY(check(root[key][i], name));
  }
  return {};
}

constexpr const char* kAnId = "NUMBER-HASH, such as 0003-0123456789abcdef";

bool has_only_texts(const Json& value) {
  return value.is_object() && std::all_of(value.begin(), value.end(), is_text);
}

Status check_axis(const Json& axis, const std::string& name) {
  RWKV_TRY(check_field(axis, name, "name", is_text, "a text"));
  return check_field(
      axis, name, "values", [](const Json& values) { return values.is_array(); }, "a list");
}

Status check_bar(const Json& bar, const std::string& name) {
  RWKV_TRY(check_field(bar, name, "label", is_text, "a text"));
  return check_field(bar, name, "point", is_id, kAnId);
}

Status check_point(const Json& point, const std::string& name) {
  RWKV_TRY(check_field(point, name, "id", is_id, kAnId));
  RWKV_TRY(check_field(point, name, "label", is_text, "a text"));
  return check_field(point, name, "settings", has_only_texts, "a map of texts");
}

Status check_manifest(const Json& root) {
  RWKV_TRY(check_field(root, "", "title", is_text, "a text"));
  RWKV_TRY(check_field(root, "", "model", is_object, "a map"));
  RWKV_TRY(check_field(root, "", "machine", is_object, "a map"));
  RWKV_TRY(check_field(
      root, "", "baseline", [](const Json& id) { return id.is_null() || is_id(id); }, kAnId));
  RWKV_TRY(check_objects(root, "axes", check_axis));
  RWKV_TRY(check_objects(root, "ablation", check_bar));
  return check_objects(root, "points", check_point);
}

// Fields that are there have the right type.
Status check_optional(const Json& object, const std::string& name,
                      std::initializer_list<const char*> keys, const Check& fits,
                      const char* expected) {
  for (const char* key : keys) {
    if (object.contains(key)) {
      RWKV_TRY(check_field(object, name, key, fits, expected));
    }
  }
  return {};
}

Status check_result(const Json& result) {
  RWKV_TRY(check_optional(result, "", {"file_bytes", "resident_bytes", "weight_bytes", "seconds"},
                          is_number, "a number"));
  RWKV_TRY(check_optional(result, "", {"memory", "xxh64"}, is_text, "a text"));
  RWKV_TRY(check_optional(result, "", {"metrics"}, is_object, "a map"));
  if (result.contains("metrics")) {
    for (const auto& [name, metric] : result["metrics"].items()) {
      if (!metric.is_object()) {
        return bad_input("'metrics.{}': expected a map", name);
      }
      RWKV_TRY(check_optional(metric, "metrics." + name, {"value", "standard_error", "n"},
                              is_number, "a number"));
    }
  }
  return {};
}

Status check_speed(const Json& speed) {
  RWKV_TRY(check_field(speed, "", "tokens_per_second", is_number, "a number"));
  return check_field(
      speed, "", "tokens_per_second_spread",
      [](const Json& spread) {
        return spread.is_array() && spread.size() == 2 &&
               std::all_of(spread.begin(), spread.end(), is_number);
      },
      "a list of two numbers");
}

Result<Json> read_checked(const std::string& path, Status (*check)(const Json&)) {
  RWKV_ASSIGN(Json json, read_json(path));
  RWKV_TRY(check(json).in(path));
  return json;
}

Status check_entry(const fs::path& path, bool may_be_folder) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (fs::is_regular_file(status) || !fs::exists(status) ||
      (may_be_folder && fs::is_directory(status))) {
    return {};
  }
  return usage_error("{}: expected a {} of the sweep's own, found {}; remove it", path.string(),
                     may_be_folder ? "file or folder" : "file",
                     fs::is_symlink(status) ? "a link" : "something else");
}

}  // namespace

bool is_point_id(std::string_view id) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto is_hex = [&](char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); };
  const size_t dash = std::min(id.find('-'), id.size());
  const std::string_view number = id.substr(0, dash);
  const std::string_view hash = id.substr(std::min(dash + 1, id.size()));
  return number.size() >= kLeastDigits && number.size() <= kMostDigits &&
         hash.size() == kHashDigits && std::all_of(number.begin(), number.end(), is_digit) &&
         std::all_of(hash.begin(), hash.end(), is_hex);
}

Status check_entries(const SweepFolder& folder) {
  for (const std::string& file : {folder.manifest(), folder.results_json(), folder.results_csv(),
                                  folder.report(), folder.lock()}) {
    RWKV_TRY(check_entry(file, /*may_be_folder=*/false));
  }
  for (const std::string& own : {folder.points(), folder.shared()}) {
    RWKV_TRY(check_entry(own, /*may_be_folder=*/true));
    std::error_code error;
    for (fs::recursive_directory_iterator at(own, error), end; !error && at != end;
         at.increment(error)) {
      RWKV_TRY(check_entry(at->path(), /*may_be_folder=*/true));
    }
    if (error && error != std::errc::no_such_file_or_directory) {
      return failed("{}: cannot look through it: {}", own, error.message());
    }
  }
  return {};
}

Result<Json> read_manifest(const SweepFolder& folder) {
  return read_checked(folder.manifest(), check_manifest);
}

Result<Json> read_result(const PointFolder& folder) {
  return read_checked(folder.result(), check_result);
}

Result<Json> read_speed(const PointFolder& folder) {
  return read_checked(folder.speed(), check_speed);
}

}  // namespace rwkv::press
