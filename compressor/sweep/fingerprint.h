// What a point's result depends on, as a number in its name: a result is taken up again only if
// nothing of it has changed.
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

  /// Of everything that points have in common, 16 hexadecimal digits.
  const std::string& common() const { return common_; }
  /// Of the checkpoint and its vocabulary alone.
  const std::string& model() const { return model_; }
  /// Of one point: its recipe too, calibration and training data only if they have a say.
  std::string of(const SweepPoint& point) const;

 private:
  std::string common_, model_, evaluation_, calibration_, training_;
};

}  // namespace rwkv::press
