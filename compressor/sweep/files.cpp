#include "compressor/sweep/files.h"

#include <filesystem>

#include "formats/base/file.h"

namespace rwkv::press {

namespace fs = std::filesystem;

namespace {

constexpr int kMostLevels = 64;
constexpr uint64_t kMaxJsonBytes = uint64_t{1} << 28;

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

Result<Json> read_json(const std::string& path) {
  RWKV_ASSIGN(const std::string text, read_text_file(path, kMaxJsonBytes));
  // Writing JSON goes as deep as the JSON does.
  bool is_deep = false;
  const auto look = [&](int depth, Json::parse_event_t /*event*/, Json& /*parsed*/) {
    is_deep = is_deep || depth > kMostLevels;
    return !is_deep;
  };
  Json json = Json::parse(text, look, /*allow_exceptions=*/false);
  if (!json.is_object() || is_deep) {
    return bad_input("{}: expected a JSON object of at most {} levels; the file is damaged", path,
                     kMostLevels);
  }
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
