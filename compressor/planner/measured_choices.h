// Choices that are measured from end to end while the blocks pass by, next to what is estimated:
// some drawn at random, to scale estimates by, and the lora matrices in every codec.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "compressor/calibrate/output_errors.h"
#include "compressor/calibrate/walk.h"
#include "compressor/planner/curves.h"
#include "compressor/stages/block_walk.h"

namespace rwkv::press {

/// What shares a scale of estimates: the product, as a pair or rounded.
std::string kind_of(const PlannedMatrix& matrix, const MatrixSetting& setting);

/// Stretches of the text on which choices are measured: all for blocks of 30 million parameters,
/// fewer for larger ones.
int64_t measured_samples(const PlanSubject& subject);

class MeasuredChoices {
 public:
  /// On the first `samples` stretches of the text. `subject` must outlive it.
  MeasuredChoices(const PlanSubject& subject, int64_t samples)
      : subject_(subject), samples_(samples) {}

  /// Draws the choices, before the first block; the lora matrices are measured too if it is asked.
  Status begin(bool with_lora);
  /// Whether a choice of this matrix was drawn.
  bool takes(size_t matrix) const;
  /// Through a block of the dense model: what begins in it, at the matrices from `first` to `end`,
  /// and what has begun before. `moments` of the inputs of what takes() says, `seen` of all.
  Status pass(BlockVisit& here, size_t first, size_t end,
              const std::map<std::string, ProductSeen>& seen);
  /// After the last block.
  Status finish(const at::Tensor& head);

  /// In the order of their matrices, `estimated` still 0.
  const std::vector<SampledChoice>& drawn() const { return drawn_; }
  /// KL of the lora matrices in each rung below the finest; empty if there are none or it was not
  /// asked.
  const std::vector<double>& lora() const { return lora_losses_; }

 private:
  // A changed model on its way through the blocks.
  struct Variant {
    Walk walk;
    // Its own model: one whose lora matrices changed. Null: the dense one, but for one matrix.
    const TensorSource* source = nullptr;
  };

  void draw();
  Status begin_lora();
  Status start(size_t choice, BlockVisit& here, const ProductSeen& seen);
  Result<at::Tensor> input_of_head(const Walk& walk) const;

  const PlanSubject& subject_;
  int64_t samples_;
  at::Tensor tokens_;  ///< a part of those that estimates are of
  std::unique_ptr<Walk> dense_;
  std::vector<SampledChoice> drawn_;
  std::map<size_t, Variant> begun_;  ///< by index in drawn_
  std::vector<double> of_all_;       ///< by index in drawn_: what all tokens lose for this part
  std::vector<std::unique_ptr<EditedSource>> lora_sources_;
  std::vector<Variant> lora_;
  std::vector<double> lora_losses_;
};

}  // namespace rwkv::press
