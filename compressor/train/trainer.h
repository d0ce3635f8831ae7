// Training: steps of AdamW over sampled sequences, with snapshots to resume from. Used by
// `rwkv-press train` and by the stage `train` of recipes; your own program can call it too and see
// every step.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "compressor/model/network.h"
#include "compressor/train/coded_weights.h"
#include "compressor/train/loss_log.h"
#include "compressor/train/options.h"
#include "compressor/train/process_group.h"
#include "formats/arch/identify.h"
#include "formats/tokenizer/tokenizer.h"

namespace rwkv::press {

/// The figures of one step.
struct StepReport {
  LossRow row;
  uint64_t steps = 0;  ///< of the whole training
  double tokens_per_second = 0.0;
  double seconds_left = 0.0;
};

/// Called by the first rank; any may be empty.
struct TrainCallbacks {
  /// After every step. False ends the training after a snapshot, to be resumed.
  std::function<bool(const StepReport& report)> on_step;
  /// After a snapshot has been written.
  std::function<void(const std::string& path, uint64_t step)> on_saved;
  /// While the teacher's answers are written, with the share that is done.
  std::function<void(const std::string& what, double share)> on_preparing;
  /// A line of information for the user.
  std::function<void(const std::string& line)> on_note;
  /// A line that the user should see in any case: a damaged snapshot was passed over, a result will
  /// not be the undisturbed one.
  std::function<void(const std::string& line)> on_warning;
};

/// A model in a source, as identify() found it.
struct ModelRef {
  const TensorSource& source;
  const Identified& model;
};

struct TrainJob {
  TrainOptions options;
  uint64_t seed = 0;
  ModelRef student;
  std::optional<ModelRef> teacher;  ///< needed if distill or block_match is above 0
  std::optional<Vocabulary> vocabulary;
  std::string folder;  ///< for snapshots, token files, loss.csv and loss.svg; created if missing
  bool resume = false;
  /// Threads of this process, at most kMaxTrainThreads; 0: as many as before if the training
  /// resumes with as many processes, else as LibTorch has.
  int threads = 0;
  TrainCallbacks callbacks;
  /// Matrices of the student that are trained as codes; must outlive train(), which attaches them.
  CodedWeights* codes = nullptr;
  /// Where networks, gradients and the optimiser lie. Codes are trained on the CPU alone.
  at::Device device = at::kCPU;
};

struct Trained {
  /// Its parameters() are the trained ones.
  std::unique_ptr<Network> network;
  uint64_t step = 0;
  bool is_finished = false;  ///< false: a callback ended it
  LossRow last;
};

/// Runs the remaining steps. Results lie on the CPU but for the network. Every process of `group`
/// calls it with the same job, except for `threads`. Bits depend on the numbers of processes and
/// threads, which cut products and sums differently. Threads are kept in the snapshots, so with the
/// same job and number of processes a training that was killed and resumed ends in the same bits as
/// one that was not; on_note and on_warning say which numbers are used. A snapshot that is damaged
/// is passed over, and the one before it taken. Failures: BadInput if none is left; Usage for
/// settings that do not fit (data shorter than a sequence, a teacher of another vocabulary, a
/// pattern that no tensor has); Failed if numbers stop being finite (names the step and the first
/// place; the last snapshot stays), if a snapshot cannot be written or a rank is gone.
Result<Trained> train(const TrainJob& job, ProcessGroup& group);

/// What stands in `parameters` for the state that texts begin with.
inline constexpr const char* kStateParameters = "state";

/// Which tensors `patterns` make trainable: "factors" (factor pairs and their diagonals), "state"
/// (att.time_state of all blocks), "all", or globs over names. Usage if one matches nothing.
Result<Network::IsTrainable> trainable_in(const std::vector<std::string>& patterns,
                                          std::span<const TensorBinding> tensors);

}  // namespace rwkv::press
