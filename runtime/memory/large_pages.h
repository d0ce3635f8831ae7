// Memory from the system in large pages, where it grants them: what is read in long streams then
// waits less often for addresses to be translated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/base/status.h"

namespace rwkv::edge {

/// At least `n_bytes`, zero, starting at a large page; empty for 0. Given back with unmap_memory.
Result<std::span<std::byte>> map_memory(uint64_t n_bytes);
void unmap_memory(std::span<std::byte> memory);

}  // namespace rwkv::edge
