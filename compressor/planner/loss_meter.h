// What replacing matrices costs: nats per token of held-back text, in the LibTorch network, with
// any setting of each matrix in the place of the dense one. Much cheaper than converting: a change
// in one block leaves the blocks before it alone.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "compressor/low_rank/factorise.h"
#include "compressor/model/block.h"
#include "compressor/model/elementwise.h"
#include "compressor/planner/choice.h"

namespace rwkv::press {

class LossMeter {
 public:
  /// Loads the whole model as f32. `calibration` int64 [samples, length] is what pairs are fitted
  /// to, `held_back`, of the same form, what losses are of. `source` must outlive it.
  static Result<std::unique_ptr<LossMeter>> create(const TensorSource& source,
                                                   const ModelConfig& config,
                                                   std::vector<PlannedMatrix> matrices,
                                                   const at::Tensor& calibration,
                                                   const at::Tensor& held_back);

  /// How pairs are found from now on.
  void set_method(const PairMethod& method);

  /// Nats per token with these settings, one per matrix, which become those that loss_with()
  /// changes. f16 counts as exact, int8 is rounded as the packer rounds.
  double loss(const std::vector<MatrixSetting>& settings);
  /// The same with one matrix changed; the settings stay.
  double loss_with(size_t matrix, const MatrixSetting& setting);
  /// Of another source of the same model, everything dense: what becomes of the small matrices.
  Result<double> loss_of(const TensorSource& changed) const;

 private:
  LossMeter() = default;
  Status observe(const at::Tensor& calibration);
  at::Tensor numbers(size_t matrix, const MatrixSetting& setting);
  Factors pair(size_t matrix, double factor);
  Linear& linear_of(size_t matrix);
  at::Tensor embedded(const MatrixSetting& setting) const;
  double head_loss(const at::Tensor& x, const at::Tensor& head) const;
  double run_from(int64_t block, at::Tensor x, at::Tensor v_first, const at::Tensor& head,
                  bool keep);

  ModelConfig config_;
  const TensorSource* source_ = nullptr;
  std::vector<PlannedMatrix> matrices_;
  at::Tensor tokens_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<at::Tensor> dense_;    ///< as loaded; undefined for the embedding
  std::vector<at::Tensor> moments_;  ///< of the inputs of what may be a pair
  at::Tensor x0_;                    ///< dense embedding of the held-back tokens
  LayerNorm ln_out_;
  PairMethod method_;
  std::vector<Factors> whole_;  ///< of full rank, where no diagonal is asked
  std::map<std::pair<size_t, double>, Factors> pairs_;  ///< with a diagonal
  // Of the settings that loss() was given.
  std::vector<MatrixSetting> settings_;
  std::vector<at::Tensor> inputs_;  ///< of each block, and of the head
  at::Tensor v_first_;
  at::Tensor head_;
};

/// `values` [.., rows, cols] as the packer rounds them in this codec.
at::Tensor rounded(const at::Tensor& values, Codec codec, Layout layout);

}  // namespace rwkv::press
