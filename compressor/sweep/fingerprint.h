// A hash of everything that the result of a point depends on. It is part of the point's name, so a
// result is reused only if nothing has changed.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "compressor/sweep/job.h"
#include "compressor/sweep/points.h"
#include "formats/tokenizer/tokenizer.h"

namespace rwkv::press {

class Fingerprint {
 public:
  /// Reads every file once: checkpoint, calibration, training data, texts and questions.
  static Result<Fingerprint> take(const SweepInputs& inputs, const SweepEvaluation& evaluation,
                                  const std::optional<Vocabulary>& vocabulary,
                                  const std::string& tool_version);

  /// The hash of everything that points have in common, 16 hexadecimal digits.
  const std::string& common() const { return common_; }
  /// The hash of only the checkpoint and its vocabulary.
  const std::string& model() const { return model_; }
  /// The hash of one point. It includes the recipe, and calibration and training data only if the
  /// recipe uses them.
  std::string of(const SweepPoint& point) const;
  /// The hash of a whole configuration: all points with their names, and what is measured.
  std::string of(const SweepPlan& plan, const SweepEvaluation& evaluation) const;

 private:
  std::string common_, model_, evaluation_, calibration_, training_;
};

}  // namespace rwkv::press
