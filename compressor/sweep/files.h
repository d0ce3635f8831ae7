// Small files of a sweep's folder, written whole or not at all.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "formats/base/status.h"

namespace rwkv::press {

using Json = nlohmann::ordered_json;

/// Replaces what is there.
Status write_whole(const std::string& path, const std::string& text);
/// The same as indented JSON; invalid UTF-8 is replaced.
Status write_json(const std::string& path, const Json& json);
std::string json_text(const Json& json);
/// BadInput if it cannot be read or is no JSON object.
Result<Json> read_json(const std::string& path);
bool exists(const std::string& path);
Status make_folder(const std::string& path);
/// Without complaint if it is not there.
void remove_file(const std::string& path);

}  // namespace rwkv::press
