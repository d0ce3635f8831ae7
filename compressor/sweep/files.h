// Small files of a sweep's folder, written completely or not at all.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "formats/base/status.h"

namespace rwkv::press {

using Json = nlohmann::ordered_json;

/// Replaces an existing file.
Status write_whole(const std::string& path, const std::string& text);
/// The same as indented JSON; invalid UTF-8 is replaced.
Status write_json(const std::string& path, const Json& json);
std::string json_text(const Json& json);
/// The object that `text` is, by the limits of strict JSON: bounded in depth and size, no key twice
/// in an object. BadInput otherwise; messages do not name the file.
Result<Json> parse_ordered_json(const std::string& text);
/// The same of a file of at most 64 MB, which messages name.
Result<Json> read_json(const std::string& path);
bool exists(const std::string& path);
Status make_folder(const std::string& path);
/// Does nothing if the file does not exist.
void remove_file(const std::string& path);

}  // namespace rwkv::press
