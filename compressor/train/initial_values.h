// A model to train from scratch, with the values that BlinkDL's trainers start from (RWKV-LM:
// RWKV-v4neo, RWKV-v5 and RWKV-v7 model.py, their constructors and generate_init_weight).
#pragma once

#include <cstdint>
#include <memory>

#include "compressor/checkpoint/memory_source.h"
#include "compressor/checkpoint/new_model.h"

namespace rwkv::press {

/// What may differ from BlinkDL's values. A head that starts as the embedding's own rows gives
/// words that were seen a short way to be said again: a small model learns to look things up in the
/// text from far less of it.
struct InitialOptions {
  uint64_t seed = 0;
  double embedding = 1e-4;  ///< largest number of the embedding
  bool tied_start = false;  ///< the head's rows are the embedding's, of length 0.3
};

/// Every tensor in the shape that BlinkDL's files have. The same options give the same values.
Result<std::unique_ptr<MemorySource>> initial_model(const NewModelOptions& model,
                                                    const InitialOptions& options);

}  // namespace rwkv::press
