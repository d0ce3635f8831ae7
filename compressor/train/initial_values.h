// A model to train from scratch, with the values that BlinkDL's trainers start from (RWKV-LM:
// RWKV-v4neo, RWKV-v5 and RWKV-v7 model.py, their constructors and generate_init_weight).
#pragma once

#include <cstdint>
#include <memory>

#include "compressor/checkpoint/memory_source.h"
#include "compressor/checkpoint/new_model.h"

namespace rwkv::press {

/// Every tensor in the shape that BlinkDL's files have. The same seed gives the same values.
/// Embedding rows are uniform within +-`embedding`. BlinkDL's trainers have 1e-4, or the learning
/// rate; where a model is small, its learning rate high and its data little, such rows are soon all
/// alike within a class of words, and looking a word up in the text is learnt late: take 0.1 there.
Result<std::unique_ptr<MemorySource>> initial_model(const NewModelOptions& options, uint64_t seed,
                                                    double embedding = 1e-4);

}  // namespace rwkv::press
