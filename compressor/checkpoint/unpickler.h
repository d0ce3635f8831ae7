// A restricted pickle machine: the opcodes of protocols 2 to 5 that torch.save writes, the globals
// of pickle_value.h, and nothing that could run code. state_dict.h interprets the
// objects. The opcodes are described in CPython's Lib/pickletools.py.
#pragma once

#include <cstdint>

#include "compressor/checkpoint/pickle_input.h"
#include "compressor/checkpoint/pickle_value.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// Objects, list items and memo entries of one pickle together; bounds its memory to about 300 MiB.
inline constexpr uint64_t kMaxPickleObjects = uint64_t{1} << 21;

struct Pickle {
  PickleArena arena;
  const PickleValue* root = nullptr;  ///< in the arena
};

/// Reads one pickle and leaves `input` at the byte after it.
Result<Pickle> unpickle(PickleInput& input);

}  // namespace rwkv::press
