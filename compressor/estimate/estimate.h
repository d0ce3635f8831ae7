// What a conversion or a training will take, said before it begins: a table over its stages, each
// of which states its own needs, and a refusal of what cannot fit.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "compressor/estimate/machine.h"
#include "compressor/recipe/recipe.h"
#include "formats/arch/identify.h"

namespace rwkv::press {

struct StageEstimate {
  std::string name;  ///< of the stage; "pack", "train"
  Needs needs;
};

struct WorkEstimate {
  std::vector<StageEstimate> stages;
  uint64_t program = 0;  ///< bytes that the process holds before the work
  uint64_t output = 0;   ///< bytes of the output file
  /// A milder setting of the calibration text that lowers the memory; empty: it does not matter.
  std::vector<Remedy> fewer_tokens;

  /// At the peak, with the program.
  uint64_t memory() const;
  /// Temporary data and the output, which are there at the same time.
  uint64_t disk() const;
};

/// The text or the moments that a recipe will learn from.
struct LearnsFrom {
  uint64_t samples = 0;
  uint64_t length = 0;
  bool has_moments = false;
};

/// Of all stages of `recipe` and of packing. `source_bytes`: of the checkpoint. Fails as the plan
/// of the stages fails.
Result<WorkEstimate> estimate_recipe(const Recipe& recipe, const Identified& model,
                                     const LearnsFrom& text, uint64_t source_bytes);

/// Adds the work of `stage` to the row of its name in `all`, which gets one if it has none.
void add_stage(WorkEstimate& all, const StageEstimate& stage);
/// What `n` processes take that divide the work among them.
void share_among_jobs(WorkEstimate& all, size_t n);

/// What there is for it. 0 where it is not known.
struct Available {
  uint64_t memory = 0;
  uint64_t disk = 0;
  std::string folder;  ///< whose file system `disk` is of
};
/// Of this machine and the folder of `output`; `most_memory` if it is above 0 and less.
Available available_for(const std::string& output, uint64_t most_memory);

/// Usage, with the setting that would fit if there is one, unless the estimate fits.
Status check_fits(const WorkEstimate& estimate, const Available& available);

/// A table with a line for each stage; times only with a machine.
std::string describe(const WorkEstimate& estimate, const std::optional<Machine>& machine,
                     const Available& available);
/// {"stages": [{"name", "memory", "disk", "cpu_seconds", "seconds"}], "memory", "disk", "machine"}
nlohmann::ordered_json to_json(const WorkEstimate& estimate, const std::optional<Machine>& machine);

/// Measures this machine as long as it is worth for the work of `estimate`: a twentieth of a second
/// for what takes a few, up to a second for more.
Machine measure_for(const WorkEstimate& estimate, const std::string& folder);

}  // namespace rwkv::press
