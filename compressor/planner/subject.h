// The subject of a plan: the model, and the texts to learn from and to measure on.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "compressor/calibrate/calibration.h"
#include "compressor/evaluate/packed_measure.h"
#include "compressor/evaluate/planned_account.h"
#include "compressor/pipeline/pack.h"
#include "compressor/planner/choice.h"
#include "compressor/planner/ladder.h"
#include "compressor/recipe/recipe.h"
#include "formats/arch/identify.h"

namespace rwkv::press {

struct PlanSubject {
  const TensorSource& source;
  Identified model;
  std::optional<Vocabulary> vocabulary = {};
  std::vector<PlannedMatrix> matrices = {};  ///< planned_matrices(model)
  Ladder ladder = {};                        ///< the codecs to choose from
  bool has_pairs = true;                     ///< projections may become factor pairs
  RecipeFrame frame = {};
  Calibration calibration = {};     ///< what stages learn from, as convert will have it
  at::Tensor held_out = {};         ///< int64 [samples, length]: what losses are of
  std::string scratch_folder = {};  ///< for packed files that are measured and removed
  std::string shared_folder = {};   ///< for what choices have in common; empty: nothing is kept
  uint64_t tokenizer_bytes = 0;
  std::string tool_version = {};  ///< that convert will write into the file
  unsigned n_threads = 1;
  std::function<void(const std::string& what, double share)> progress = [](const std::string&,
                                                                           double) {};
};

/// As many stretches of options.texts as requested, without those that calibration takes. Usage if
/// there is too little text.
Result<at::Tensor> held_out_samples(const CalibrationOptions& options, uint64_t samples,
                                    const std::optional<Vocabulary>& vocabulary,
                                    const ModelConfig& config);

/// A choice as convert makes it: the file at `path`, replaced if it is there.
struct PackedChoice {
  PackPlan plan;  ///< with what stages found out: the halves of predictors, clusters
  std::string path;
};
Result<PackedChoice> pack_choice(const PlanSubject& subject, const Choice& choice,
                                 const std::string& path);

/// The lossless choice: everything dense, in the finest codec.
Choice lossless_choice(const PlanSubject& subject);

/// That choice, packed once in the scratch folder; losses are measured against it.
Result<PackedChoice> pack_dense(const PlanSubject& subject);

/// A choice with other values of p_min, which are settings of the file alone.
Status pack_with_p_min(const PlanSubject& subject, const Choice& choice,
                       const std::vector<double>& values,
                       const std::function<Status(double p_min, const PackedChoice&)>& use);

/// How choices are packed, but for the path.
PackOptions pack_options_of(const PlanSubject& subject);

/// The plan that the choice's recipe makes of the model.
Result<PackPlan> pack_plan_of(const PlanSubject& subject, const Choice& choice);
/// The same, with the bytes of the packed file as `size`, of pack_options_of(), predicts them.
Result<PackPlan> pack_plan_of(const PlanSubject& subject, const Choice& choice,
                              const PackedSize& size, uint64_t& file_bytes);

}  // namespace rwkv::press
