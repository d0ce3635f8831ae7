// Training block by block: a block of the student learns to give what the teacher's block gives,
// its output and the state that it leaves. One block of each model is in memory, with gradients and
// an optimiser for what is trained of the student's; activations wait in files.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "compressor/train/block_loss.h"
#include "compressor/train/block_options.h"
#include "compressor/train/coded_weights.h"
#include "compressor/train/trainer.h"

namespace rwkv::press {

struct BlockJob {
  TrainOptions options;  ///< text, batches, AdamW, precision, parameters, save_every
  BlockOptions blocks;
  uint64_t seed = 0;
  ModelRef teacher;
  /// Its source changes as `put` and `put_codes` are called.
  ModelRef student;
  std::optional<Vocabulary> vocabulary = {};
  /// For results, and for activations and snapshots, which take much space; created if missing.
  std::string folder;
  bool resume = false;
  int threads = 0;               ///< as in TrainJob
  at::Device device = at::kCPU;  ///< as in TrainJob
  /// Train only this part of the blocks, with inputs from the teacher; others train the rest, on
  /// this machine or on another, at the same time or not.
  std::optional<BlockShard> shard = {};
  TrainCallbacks callbacks = {};
  /// Called with what is done between steps and its share.
  std::function<void(const std::string& what, double share)> progress;
  /// A trained tensor of the student, f32.
  std::function<Status(const std::string& name, const at::Tensor& values)> put;
  /// The codes of a block's matrices, which are trained as such; empty: none have any.
  std::function<Result<CodedWeights>(int64_t block)> codes = {};
  std::function<Status(const std::string& name, std::span<const std::byte> codes)> put_codes = {};
};

struct BlocksTrained {
  bool is_finished = false;   ///< false: a callback ended it
  int64_t n_trained = 0;      ///< blocks of which something was trained, by this run or another
  int64_t n_missing = 0;      ///< blocks that other parts have still to train
  BlockErrors before, after;  ///< means over the blocks that were trained
  std::string where;          ///< "step 12 of 200 of block 3", if it is not finished
};

/// Trains what is left. Each block is kept in FOLDER/block-NNNN.safetensors once it is trained, and
/// put into the student then; a run that finds all of them only puts them. The same job gives the
/// same bits with the same number of threads, whether it was interrupted or not, in one part or in
/// several. Failures: as train(); BadInput names a file of the folder that is damaged, Usage if
/// there are blocks and neither `resume` nor a part.
Result<BlocksTrained> train_blocks(const BlockJob& job);

}  // namespace rwkv::press
