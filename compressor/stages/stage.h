// A stage of a recipe. It states its settings and says in a plan what it will do to which tensor;
// stages that compute something also run. kStages lists them all.
#pragma once

#include <yaml-cpp/yaml.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "compressor/options/settings.h"
#include "compressor/stages/needs.h"
#include "compressor/stages/plan.h"
#include "compressor/stages/work.h"
#include "formats/base/status.h"

namespace rwkv::press {

class Stage {
 public:
  virtual ~Stage() = default;
  virtual const char* name() const = 0;
  /// Its settings, bound to its own values: first the defaults, then the values in force.
  virtual Settings settings() = 0;
  /// Takes the values of `given` (a map, possibly empty); Usage as Settings::read().
  Status configure(const YAML::Node& given) {
    RWKV_TRY(settings().read(given));
    return settle(given);
  }
  /// Changes the plan as the stage will change the model. Cheap: no tensor is read. Refuses a model
  /// that the stage cannot work on. If the data decide a size, the plan has the largest possible
  /// one.
  virtual Status plan(PackPlan& plan) const = 0;
  /// True if run() learns from text.
  virtual bool needs_calibration() const { return false; }
  /// True if run() learns from text when there is some, and does without when there is none.
  virtual bool may_use_calibration() const { return needs_calibration(); }
  /// True if run() needs Work::Training.
  virtual bool trains() const { return false; }
  /// True if run() can do a part of its work, for several machines (Work::Training::shard).
  virtual bool has_parts() const { return false; }
  /// True if values that were rounded are rounded again after run().
  virtual bool rounds_again() const { return trains(); }
  /// True if the stage only recovers quality lost by earlier stages.
  virtual bool recovers() const { return trains(); }
  /// What run() has a shell do, in the recipe's words; empty: nothing.
  virtual std::string command() const { return {}; }
  /// What run() will take, before any work; none by default. A row in the table of an estimate.
  virtual Needs needs(const StageSubject& /*subject*/) const { return {}; }
  /// Does the work: changes work.source and, like plan(), work.plan.
  virtual Status run(Work& work) const { return plan(work.plan); }

 protected:
  /// After reading: defaults that follow from other settings (`given` says what was stated), and
  /// settings that exclude each other.
  virtual Status settle(const YAML::Node& /*given*/) { return {}; }
};

/// One line per stage, in the order in which a recipe must have them: pairs first, since later
/// stages should see their errors; values are rounded last.
struct StageTraits {
  const char* name;
  std::unique_ptr<Stage> (*make)();
  /// May also stand earlier than its place in the list.
  bool is_free = false;
  /// With this setting it stands after all others, and there may be one more of it.
  const char* last_with = nullptr;
};
std::span<const StageTraits> stage_list();

}  // namespace rwkv::press
