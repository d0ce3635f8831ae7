// What a training takes, from shapes alone.
#pragma once

#include <cstdint>

#include "compressor/numerics/needs.h"
#include "compressor/train/block_options.h"
#include "compressor/train/options.h"
#include "formats/arch/model_config.h"

namespace rwkv::press {

/// Elements of a model: in all, and in the matrices of its blocks.
struct ModelNumbers {
  ModelConfig config;
  uint64_t all = 0;
  uint64_t blocks = 0;
};

struct TrainSubject {
  ModelNumbers student;
  uint64_t trainable = 0;  ///< elements that have gradients
  uint64_t coded = 0;      ///< of them, those trained as codes, with their values besides
  ModelNumbers teacher;    ///< all 0: none
  // Elements of the largest block, for a training block by block.
  uint64_t largest_block = 0;
  uint64_t largest_of_teacher = 0;
};

/// Of train(): memory, snapshots in the work folder as `disk`, and the work of all steps. Settings
/// that take less memory are among the remedies.
Needs train_needs(const TrainOptions& options, const TrainSubject& subject);

/// The same of train_blocks(): its activations are part of `disk`.
Needs block_training_needs(const TrainOptions& options, const BlockOptions& blocks,
                           const TrainSubject& subject);

}  // namespace rwkv::press
