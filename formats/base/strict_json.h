// JSON from outside as a value: of bounded depth and size, and without keys that occur twice, of
// which a parser would silently take the last.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "formats/base/status.h"

namespace rwkv {

/// At most 32 levels deep, 260,000 objects and arrays, and a million values in all, which are
/// what a value takes its memory for: 16 bytes for each and about 80 for each object, array, text
/// and key. Messages do not name the file.
Result<nlohmann::json> parse_strict_json(std::string_view text);

}  // namespace rwkv
