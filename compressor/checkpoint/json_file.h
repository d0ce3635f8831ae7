// JSON files that lie next to checkpoints: indexes of parts, configurations. They come from
// outside: their size and their nesting are limited before anything is built.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "formats/base/status.h"

namespace rwkv::press {

/// The object in the file at `path`. BadInput for files of more than `max_bytes`, of deep nesting,
/// of invalid JSON, and for anything but an object.
Result<nlohmann::json> read_json_file(const std::string& path, uint64_t max_bytes);

}  // namespace rwkv::press
