// Sizes in bytes as people write them.
#pragma once

#include <cstdint>
#include <string>

#include "formats/base/status.h"

namespace rwkv {

/// "64MB", "64M", "1.5 GB", "64MiB" or "67108864", in any case; K, M and G are powers of 1000, Ki,
/// Mi and Gi of 1024. Usage for anything else, zero and negative numbers included.
Result<uint64_t> parse_bytes(const std::string& text);

}  // namespace rwkv
