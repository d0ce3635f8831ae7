// The display of a running training, and how the user ends it.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "compressor/numerics/share.h"
#include "compressor/train/trainer.h"

namespace rwkv::press {

/// Callbacks that hand a line now and then to `show` ("step 120 of 6000, loss 3.1416, 5120
/// tokens/s, 19 min left"), and that end the training on request: during the life of the object,
/// the first Ctrl-C or SIGTERM lets the step finish and writes a snapshot, the second ends the
/// program. One at a time.
class TrainProgress {
 public:
  /// `warn` receives what a user should see even if `show` shows nothing. `on_step` sees every
  /// step; if it returns true it has shown the step, and no line follows.
  TrainProgress(std::function<void(const std::string& line)> show,
                std::function<void(const std::string& line)> warn,
                std::function<bool(const StepReport& report)> on_step = {});
  ~TrainProgress();
  TrainProgress(const TrainProgress&) = delete;
  TrainProgress& operator=(const TrainProgress&) = delete;

  /// They refer to this object.
  TrainCallbacks callbacks();
  /// The status of a training that ended before its last step; the message says how to continue.
  static Status interrupted(const Trained& trained, const TrainJob& job);

 private:
  bool on_step(const StepReport& report);
  std::function<void(const std::string& line)> show_;
  std::function<void(const std::string& line)> warn_;
  std::function<bool(const StepReport& report)> on_step_;
  std::chrono::steady_clock::time_point last_shown_;
  void (*previous_int_)(int);
  void (*previous_term_)(int);
};

/// A step as progress: its share of the training, the loss, and the time that is left.
Share share_of(const StepReport& report);

}  // namespace rwkv::press
