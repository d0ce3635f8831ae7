// Sizes in bytes as people write them.
#pragma once

#include <cstdint>
#include <string>

#include "formats/base/status.h"

namespace rwkv {

/// "64MB", "1.5GB", "64MiB" or "67108864". Usage for anything else, zero and negative numbers
/// included.
Result<uint64_t> parse_bytes(const std::string& text);

}  // namespace rwkv
