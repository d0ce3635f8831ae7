// A restricted pickle machine: the opcodes of protocols 2 to 5 that torch.save writes, the globals
// of pickle_value.h, and nothing that could run code. state_dict.h interprets the
// objects. The opcodes are described in CPython's Lib/pickletools.py.
#pragma once

#include <algorithm>
#include <cstdint>

#include "compressor/checkpoint/pickle_input.h"
#include "compressor/checkpoint/pickle_value.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// Objects, list items and memo entries of one pickle together. They take about 100 bytes each, so
/// a file of `file_bytes` may not have more than a small multiple of its size in memory allows: its
/// weights, which are not in the pickle, are what makes a file large.
constexpr uint64_t most_pickle_objects(uint64_t file_bytes) {
  return std::clamp(file_bytes / 32, uint64_t{1} << 16, uint64_t{1} << 21);
}

struct Pickle {
  PickleArena arena;
  const PickleValue* root = nullptr;  ///< in the arena
};

/// Reads one pickle of a file of `file_bytes` and leaves `input` at the byte after it.
Result<Pickle> unpickle(PickleInput& input, uint64_t file_bytes);

}  // namespace rwkv::press
