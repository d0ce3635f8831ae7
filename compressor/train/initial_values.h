// A model to train from scratch, with the values that BlinkDL's trainers start from (RWKV-LM:
// RWKV-v4neo, RWKV-v5 and RWKV-v7 model.py, their constructors and generate_init_weight).
#pragma once

#include <cstdint>
#include <memory>

#include "compressor/checkpoint/memory_source.h"
#include "compressor/checkpoint/new_model.h"

namespace rwkv::press {

/// Differences from BlinkDL's values. A head that starts with the rows of the embedding, and blocks
/// that start by finding what followed earlier occurrences of the current token, make it easy to
/// repeat words from the text: a small model then learns to look things up from far less text.
struct InitialOptions {
  uint64_t seed = 0;
  double embedding = 1e-4;  ///< largest value of the embedding
  bool tied_start = false;  ///< the head's rows are the embedding's, of length 0.3
  /// v5.0 to v6: att.receptance starts as a multiple of att.key, att.output as att.value transposed
  /// and the gate open, so that the recurrence copies from where the shifted key equals the current
  /// token (after Trockman et al., Mimetic Initialization Helps State Space Models Learn to Recall,
  /// 2024), most of it with a long memory (decays 0.98 to 0.999 a token). The faster half of the
  /// first block's heads instead gathers the preceding tokens, near ones more than far ones, so
  /// that later blocks can find a token by its neighbours.
  bool mimetic = false;
};

/// Every tensor in the shape that BlinkDL's files have. The same options give the same values.
/// Usage if the version has no such start.
Result<std::unique_ptr<MemorySource>> initial_model(const NewModelOptions& model,
                                                    const InitialOptions& options);

}  // namespace rwkv::press
