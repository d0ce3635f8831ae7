// What a stage of a recipe is. A stage declares its options, reads their values, and says in a plan
// what it will do to which tensor; stages that compute something also run. kStages lists them all.
#pragma once

#include <yaml-cpp/yaml.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "compressor/options/option_spec.h"
#include "compressor/stages/plan.h"
#include "compressor/stages/work.h"
#include "formats/base/status.h"

namespace rwkv::press {

class Stage {
 public:
  virtual ~Stage() = default;
  virtual const char* name() const = 0;
  virtual std::span<const OptionSpec> options() const = 0;
  /// Takes the values of `options` (a map, possibly empty, whose keys are all declared).
  virtual Status configure(const YAML::Node& options) = 0;
  /// Settings in force, as a YAML map under the stage's name.
  virtual void emit(YAML::Emitter& out) const = 0;
  /// Changes the plan as the stage will change the model. Cheap: no tensor is read. Refuses a model
  /// that the stage cannot work on. Where the data decide a size, the largest it can have.
  virtual Status plan(PackPlan& plan) const = 0;
  /// True if run() learns from text.
  virtual bool needs_calibration() const { return false; }
  /// True if run() needs what Work::Training has.
  virtual bool trains() const { return false; }
  /// True if the stage only recovers quality lost by earlier stages.
  virtual bool recovers() const { return trains(); }
  /// Does it: changes work.source and, as plan() does, work.plan.
  virtual Status run(Work& work) const { return plan(work.plan); }
};

/// One line per stage, in the order in which a recipe must have them: pairs first, since what they
/// get wrong is what later stages see; numbers are rounded last.
struct StageTraits {
  const char* name;
  std::unique_ptr<Stage> (*make)();
  /// May also stand before stages that the list has before it.
  bool is_free = false;
};
std::span<const StageTraits> stage_list();

}  // namespace rwkv::press
