#include "compressor/sweep/files.h"

#include <filesystem>

#include "formats/base/file.h"
#include "formats/base/strict_json.h"

namespace rwkv::press {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kMaxJsonBytes = uint64_t{1} << 26;
// JSON that keeps the order of its keys looks through all of them for each one.
constexpr size_t kMostKeys = 4096;

Status check_keys(const nlohmann::json& value) {
  if (value.is_object() && value.size() > kMostKeys) {
    return bad_input("an object has {} keys, at most {} are expected; the file is damaged",
                     value.size(), kMostKeys);
  }
  if (value.is_structured()) {
    for (const nlohmann::json& inner : value) {
      RWKV_TRY(check_keys(inner));
    }
  }
  return {};
}

}  // namespace

Status write_whole(const std::string& path, const std::string& text) {
  RWKV_ASSIGN(const auto file, OutputFile::create(path, OutputFile::Existing::Replace));
  RWKV_TRY(file->write(std::as_bytes(std::span(text))));
  return file->commit();
}

std::string json_text(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Status write_json(const std::string& path, const Json& json) {
  return write_whole(path, json_text(json));
}

Result<Json> parse_ordered_json(const std::string& text) {
  RWKV_ASSIGN(const nlohmann::json strict, parse_strict_json(text));
  if (!strict.is_object()) {
    return bad_input("expected a JSON object, found {}; the file is damaged", strict.type_name());
  }
  RWKV_TRY(check_keys(strict));
  return Json::parse(text);
}

Result<Json> read_json(const std::string& path) {
  RWKV_ASSIGN(const std::string text, read_text_file(path, kMaxJsonBytes));
  Result<Json> json = parse_ordered_json(text);
  RWKV_TRY(json.status().in(path));
  return json;
}

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

Status make_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) {
    return failed("{}: cannot create the folder: {}", path, error.message());
  }
  return {};
}

void remove_file(const std::string& path) {
  std::error_code ignored;
  fs::remove(path, ignored);
}

}  // namespace rwkv::press
