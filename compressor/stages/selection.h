// The choice between a scalar and a codebook quantizer for each matrix, as part of the stage
// `quantize`.
#pragma once

#include <memory>
#include <vector>

#include "compressor/options/settings.h"
#include "compressor/stages/candidate_meter.h"

namespace rwkv::press {

/// Its settings, as keys of the stage.
class Selection {
 public:
  Selection();
  bool is_on() const { return selector_ != 0; }
  std::vector<Setting> settings();
  /// Usage for settings that have no effect.
  Status check() const;

  /// Changes the codecs of matrices with a product from those that the stage gave them to the
  /// larger of the two that they may get.
  void plan(PackPlan& plan) const;
  /// Chooses, and quantizes the model with what it chose. work.plan has the codecs that the stage
  /// gave; `head_groups` as in ModelQuantizing. Reports each matrix, and how the measures agree.
  Status run(Work& work, bool sequential, uint64_t head_groups) const;

 private:
  SelectorRule rule() const;
  Candidate scalar_for(const PlannedTensor& tensor) const;
  Candidate codebook_for(const PlannedTensor& tensor) const;
  void report(const Work& work, const std::vector<MeasuredMatrix>& matrices,
              const std::vector<bool>& is_codebook) const;

  size_t selector_ = 0;
  size_t scalar_ = 0;
  size_t codebook_ = 0;
  Codec codebook_codec_ = Codec::F32;  // F32: as the scalar
  double coarse_ = 0.5;
  double fine_ = 0.2;
  uint64_t budget_ = 0;
  std::vector<std::unique_ptr<Quantizer>> quantizers_;  // of quantizer_list()
};

}  // namespace rwkv::press
