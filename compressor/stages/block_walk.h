// The one walk over the blocks of a model, for everything that learns from text: one block is in
// memory at a time, the inputs of its products are observed before it is changed, and activations
// advance through it.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "compressor/calibrate/calibration.h"
#include "compressor/calibrate/walk.h"
#include "compressor/model/block.h"
#include "compressor/numerics/share.h"
#include "formats/arch/model_config.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// The activations available at a block.
enum class Activations : uint8_t {
  None,         ///< none: blocks are only loaded
  FromFile,     ///< none, but the moments of a statistics file
  Unchanged,    ///< those of the model as it was before the walk
  AfterChanges  ///< those that the previous blocks produce after their visits
};

/// The current block.
struct BlockVisit {
  int64_t index;
  Block& block;  ///< to be changed, if the visit changes it
  /// E[x x^T] over the inputs of each requested product; empty with Activations::None.
  std::map<std::string, at::Tensor> moments;
  /// Activations before the block with AfterChanges, after it with Unchanged; else nullptr.
  Walk* walk;
};

struct BlockWalk {
  const TensorSource& source;
  const ModelConfig& config;
  const Calibration* calibration = nullptr;  ///< needed unless Activations::None
  Activations activations = Activations::Unchanged;
  /// Names of the products of a block whose moments a visit needs ("att.key"); names that the block
  /// does not have are ignored. Empty: none.
  std::function<std::vector<std::string>(int64_t block)> products = {};
  /// Sees the inputs of the products named in `observed` before the visit; may be empty.
  Observe observe = {};
  /// Empty: all.
  std::vector<std::string> observed = {};
  /// All blocks, if they are in memory; else each is loaded on its turn.
  std::span<const std::unique_ptr<Block>> loaded = {};
  /// Called with the blocks that are done.
  std::function<void(Share share)> progress = [](Share) {};

  /// Visits the blocks in order. Returns the activations after the last one,
  /// [samples * length, n_embd]; undefined if there are none.
  Result<at::Tensor> run(const std::function<Status(BlockVisit&)>& visit) const;

 private:
  Status gather(BlockVisit& visit) const;
};

}  // namespace rwkv::press
