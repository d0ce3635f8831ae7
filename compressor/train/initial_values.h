// A model to train from scratch, with the values that BlinkDL's trainers start from (RWKV-LM:
// RWKV-v4neo, RWKV-v5 and RWKV-v7 model.py, their constructors and generate_init_weight).
#pragma once

#include <cstdint>
#include <memory>

#include "compressor/checkpoint/memory_source.h"
#include "compressor/checkpoint/new_model.h"

namespace rwkv::press {

/// Every tensor in the shape that BlinkDL's files have. The same seed gives the same values.
Result<std::unique_ptr<MemorySource>> initial_model(const NewModelOptions& options, uint64_t seed);

}  // namespace rwkv::press
