// The cost of replacing matrices: the distance of predictions over held-out text from those of the
// dense model, in the LibTorch network, with any setting of each matrix instead of the dense one.
// Much cheaper than converting: a change in one block does not affect the blocks before it.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "compressor/low_rank/factorise.h"
#include "compressor/model/block.h"
#include "compressor/model/elementwise.h"
#include "compressor/planner/choice.h"
#include "compressor/planner/learnt_rounding.h"

namespace rwkv::press {

/// The loss of a model on held-out text, per predicted token.
struct TextLoss {
  double nats = 0;  ///< cross-entropy
  /// KL(dense || model), nats, over the whole vocabulary: what plans are chosen by. Never below
  /// zero, and far less a matter of the text's own tokens than a difference of cross-entropies is.
  double kl = 0;
};

/// How a LossMeter learns codes from text.
struct LearntCodes {
  /// The lut codecs among these get codes from the quantizer `refined`, as stage quantize chooses
  /// them where there is text; without a codec in this list, its codes are rounded to nearest.
  std::span<const Codec> codecs = {};
  /// For quantizing alone, whose results do not depend on it.
  int n_threads = 1;
  std::function<void(double share)> progress = [](double) {};
};

class LossMeter {
 public:
  /// Loads the whole model as f32, and keeps it in every codec of `learnt` too. `calibration` int64
  /// [samples, length] is what pairs are fitted to and codes are learnt from, `held_out`, of the
  /// same form, what losses are of. `source` must outlive it.
  static Result<std::unique_ptr<LossMeter>> create(
      const TensorSource& source, const ModelConfig& config, std::vector<PlannedMatrix> matrices,
      const at::Tensor& calibration, const at::Tensor& held_out, const LearntCodes& learnt = {});

  /// How pairs are found from now on.
  void set_method(const PairMethod& method);

  /// With these settings, one per matrix, which become those that loss_with() changes. Codecs
  /// that are exact change nothing; lut codecs have learnt codes, from the activations of the dense
  /// model; the others round as the packer does.
  TextLoss loss(const std::vector<MatrixSetting>& settings);
  /// The same with one matrix changed; the settings stay.
  TextLoss loss_with(size_t matrix, const MatrixSetting& setting);
  /// Of another source of the same model, everything dense: what becomes of the lora matrices.
  Result<TextLoss> loss_of(const TensorSource& changed) const;

 private:
  LossMeter() = default;
  Status observe(const at::Tensor& calibration, const LearntCodes& learnt);
  at::Tensor numbers(size_t matrix, const MatrixSetting& setting);
  Factors pair(size_t matrix, double factor);
  Linear& linear_of(size_t matrix);
  at::Tensor embedded(const MatrixSetting& setting) const;
  size_t head_index() const;
  const at::Tensor& dense_head() const;
  at::Tensor predicting(const at::Tensor& x) const;
  at::Tensor dense_log_p(int64_t at, int64_t n) const;
  TextLoss head_loss(const at::Tensor& x, const at::Tensor& head) const;
  TextLoss run_from(int64_t block, at::Tensor x, at::Tensor v_first, const at::Tensor& head,
                    bool keep);

  ModelConfig config_;
  const TensorSource* source_ = nullptr;
  std::vector<PlannedMatrix> matrices_;
  at::Tensor tokens_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<at::Tensor> dense_;    ///< as loaded; undefined for the embedding
  std::vector<at::Tensor> moments_;  ///< of the inputs of what may be a pair
  std::unique_ptr<LearntRounding> learnt_;
  at::Tensor x0_;       ///< dense embedding of the held-out tokens
  at::Tensor dense_z_;  ///< what the dense model's head sees of them
  at::Tensor log_p_;    ///< its predictions, where they are not too many to keep
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

}  // namespace rwkv::press
