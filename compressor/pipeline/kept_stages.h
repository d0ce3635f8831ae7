// The finished stages of a conversion on disk, so that an interrupted one can go on, in the work
// folder of the output. `stages.data` has what stages made, in the order in which they made it;
// `after-stage-N.safetensors`, sealed, says what of it there was after stage N, with its checksum,
// and from what it was made.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "compressor/checkpoint/scratch_file.h"
#include "compressor/recipe/recipe.h"
#include "compressor/stages/work.h"

namespace rwkv::press {

/// What a result depends on, as text of one line each: checkpoint, calibration, program, and every
/// stage with its settings.
struct ConversionIdentity {
  std::vector<std::string> inputs;  ///< "checkpoint: 0123456789abcdef"
  std::vector<std::string> stages;  ///< "low_rank: {factor: 8, ...}"
};
/// `inputs` are those that the caller knows; stages and seed follow from `recipe`.
ConversionIdentity identity_of(const Recipe& recipe, std::vector<std::string> inputs);

class KeptStages {
 public:
  /// In `folder`, which is created. With `resume` it continues from the newest state there that is
  /// sound and whose inputs and stages are those of `identity`; others are passed over, and said
  /// through `note`. Without `resume` such a state is Usage, since it may be hours of work; others
  /// are removed, and said. Usage too if another process works there.
  static Result<std::unique_ptr<KeptStages>> open(
      const std::string& folder, const ConversionIdentity& identity, bool resume,
      const std::function<void(const std::string& line)>& note);

  /// Whether there were sound states of other inputs or settings: snapshots of a training next to
  /// them are not this conversion's either.
  bool had_others() const { return had_others_; }
  /// Stages that need not run again.
  size_t done() const { return done_; }
  /// The temporary data, once: for the source of the work.
  std::unique_ptr<ScratchFile> take_data() { return std::move(data_); }
  /// Brings `work`, whose source has take_data(), to the state after done() stages.
  Status restore(Work& work) const;
  /// After stage number `done`: everything of `work` is on storage when it returns.
  Status keep(size_t done, Work& work);
  /// After the end of the conversion: both files go, and the folder if nothing else is in it.
  void remove() const;

 private:
  KeptStages(std::string folder, ConversionIdentity identity)
      : folder_(std::move(folder)), identity_(std::move(identity)) {}
  Status load(bool resume, const std::function<void(const std::string& line)>& note);

  std::string folder_;
  ConversionIdentity identity_;
  std::unique_ptr<ScratchFile> data_;
  std::string state_;  // JSON, of done_ stages
  size_t done_ = 0;
  bool had_others_ = false;
};

}  // namespace rwkv::press
