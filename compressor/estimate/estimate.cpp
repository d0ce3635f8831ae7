#include "compressor/estimate/estimate.h"

#include <algorithm>
#include <filesystem>

#include "compressor/pipeline/pack.h"
#include "compressor/stages/needs.h"

namespace rwkv::press {
namespace {

// The stages of a recipe for one size of the calibration text. `plan` becomes that of the result.
Result<std::vector<StageEstimate>> stages_of(const Recipe& recipe, const PackPlan& original,
                                             uint64_t tokens, bool has_moments, PackPlan& plan) {
  std::vector<StageEstimate> stages;
  bool has_hidden = false;
  for (const std::unique_ptr<Stage>& stage : recipe.stages) {
    const Needs needs = stage->needs({plan, original, tokens, has_moments, has_hidden});
    // Activations after the last block wait for the next stage that uses them.
    has_hidden = needs.leaves_hidden || (has_hidden && !stage->trains());
    RWKV_TRY(stage->plan(plan));
    stages.push_back({stage->name(), needs});
  }
  return stages;
}

// Estimates are as good as that: what is expected to take a little more than there is may fit.
constexpr double kUncertain = 1.15;

uint64_t most_memory(const std::vector<StageEstimate>& stages) {
  uint64_t most = 0;
  for (const StageEstimate& stage : stages) {
    most = std::max(most, stage.needs.memory);
  }
  return most;
}

std::string bytes_text(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  return bytes >= 10'000'000'000  ? fmt::format("{:.0f} GB", value * 1e-9)
         : bytes >= 1'000'000'000 ? fmt::format("{:.1f} GB", value * 1e-9)
                                  : fmt::format("{:.0f} MB", value * 1e-6);
}

std::string time_text(double seconds) {
  return seconds < 100    ? fmt::format("{:.{}f} s", seconds, seconds < 10 ? 1 : 0)
         : seconds < 6000 ? fmt::format("{:.0f} min", seconds / 60)
                          : fmt::format("{:.1f} h", seconds / 3600);
}

}  // namespace

uint64_t WorkEstimate::memory() const {
  return program + most_memory(stages);
}

uint64_t WorkEstimate::disk() const {
  uint64_t bytes = 0;
  for (const StageEstimate& stage : stages) {
    bytes += stage.needs.disk;
  }
  return bytes;
}

Result<WorkEstimate> estimate_recipe(const Recipe& recipe, const Identified& model,
                                     const LearnsFrom& text, uint64_t source_bytes) {
  const PackPlan original = plan_for(model);
  PackPlan plan = original;
  WorkEstimate estimate;
  estimate.program = resident_bytes();
  const bool has_text = text.samples > 0 || text.has_moments;
  RWKV_ASSIGN(estimate.stages,
              stages_of(recipe, original, text.samples * text.length, text.has_moments, plan));
  estimate.stages.push_back(
      {"pack", pack_needs(plan, source_bytes, has_text && may_use_calibration(recipe))});
  estimate.output = plan.total_bytes();
  // At least 64 sequences' worth of what stages learn from is left.
  for (uint64_t samples = text.samples / 2; samples >= 8; samples /= 2) {
    PackPlan other = original;
    RWKV_ASSIGN(const auto stages,
                stages_of(recipe, original, samples * text.length, text.has_moments, other));
    estimate.fewer_tokens.push_back(
        {fmt::format("calibration.samples={}", samples),
         std::max(most_memory(stages), estimate.stages.back().needs.memory)});
  }
  return estimate;
}

void add_stage(WorkEstimate& all, const StageEstimate& stage) {
  const auto found =
      std::find_if(all.stages.begin(), all.stages.end(),
                   [&](const StageEstimate& each) { return each.name == stage.name; });
  if (found == all.stages.end()) {
    all.stages.push_back(stage);
  } else {
    found->needs.then(stage.needs);
  }
}

void share_among_jobs(WorkEstimate& all, size_t n) {
  // This process waits while n others work, and hold the program too.
  for (StageEstimate& stage : all.stages) {
    stage.needs.memory = n * (all.program + stage.needs.memory);
    // Each has a share of the threads: what one thread does runs side by side.
    stage.needs.parallel += stage.needs.serial;
    stage.needs.serial = {};
    stage.needs.remedies.clear();
  }
  if (n > 1) {
    all.fewer_tokens.clear();
  }
}

Available available_for(const std::string& output, uint64_t most_memory) {
  Available available;
  available.folder = std::filesystem::path(output).parent_path().string();
  const uint64_t memory = available_memory();
  // What the program holds already is part of the estimate.
  available.memory = memory == 0 ? 0 : memory + resident_bytes();
  if (most_memory > 0 && (available.memory == 0 || most_memory < available.memory)) {
    available.memory = most_memory;
  }
  available.disk = free_disk(available.folder);
  return available;
}

namespace {

// The mildest setting with which `stage` fits: its own, else less text for all.
std::string way_out(const WorkEstimate& estimate, const StageEstimate& stage, uint64_t memory) {
  const auto fits = [&](const Remedy& remedy) {
    return estimate.program + remedy.memory <= memory;
  };
  for (const std::vector<Remedy>* remedies : {&stage.needs.remedies, &estimate.fewer_tokens}) {
    const auto found = std::find_if(remedies->begin(), remedies->end(), fits);
    if (found != remedies->end()) {
      return fmt::format("with --set {} it takes {}", found->setting,
                         bytes_text(estimate.program + found->memory));
    }
  }
  return "no setting of this recipe makes it fit: take a smaller model or a machine with more";
}

}  // namespace

Status check_fits(const WorkEstimate& estimate, const Available& available) {
  if (available.memory > 0) {
    for (const StageEstimate& stage : estimate.stages) {
      const uint64_t memory = estimate.program + stage.needs.memory;
      if (static_cast<double>(memory) > kUncertain * static_cast<double>(available.memory)) {
        return usage_error(
            "{}: expected to take {} of memory, and {} are available; {}; --ignore-estimate "
            "starts it all the same",
            stage.name, bytes_text(memory), bytes_text(available.memory),
            way_out(estimate, stage, available.memory));
      }
    }
  }
  if (available.disk > 0 && estimate.disk() > available.disk) {
    return usage_error(
        "{}: expected to take {} of disk for the output and temporary data, and {} are free; "
        "choose an output on another disk; --ignore-estimate starts it all the same",
        available.folder.empty() ? "." : available.folder, bytes_text(estimate.disk()),
        bytes_text(available.disk));
  }
  return {};
}

std::string describe(const WorkEstimate& estimate, const std::optional<Machine>& machine,
                     const Available& available) {
  std::string text = "estimate";
  if (machine) {
    text += fmt::format(
        " ({} thread{}, products {:.0f} GFLOP/s, loops {:.1f}, memory {:.1f} GB/s, "
        "disk {:.1f} GB/s; measured in {:.2f} s{})",
        machine->threads, machine->threads == 1 ? "" : "s", machine->products_together * 1e-9,
        machine->loops * 1e-9, machine->bytes * 1e-9, machine->files * 1e-9, machine->measured_in,
        machine->share < 0.8
            ? fmt::format(", on a machine that leaves {:.0f} % of its time", 100 * machine->share)
            : "");
  }
  text += fmt::format("\n  {:<14} {:>9} {:>9} {:>9}\n", "stage", machine ? "time" : "", "memory",
                      "disk");
  double seconds = 0;
  for (const StageEstimate& stage : estimate.stages) {
    const double own = machine ? machine->wall_seconds(stage.needs) : 0;
    seconds += own;
    text += fmt::format("  {:<14} {:>9} {:>9} {:>9}\n", stage.name, machine ? time_text(own) : "",
                        bytes_text(estimate.program + stage.needs.memory),
                        bytes_text(stage.needs.disk));
  }
  const auto of = [](uint64_t bytes) {
    return bytes > 0 ? " of " + bytes_text(bytes) : std::string();
  };
  text += fmt::format("  {:<14} {:>9} memory {}{}, disk {}{}\n", "in all",
                      machine ? time_text(seconds) : "", bytes_text(estimate.memory()),
                      of(available.memory), bytes_text(estimate.disk()), of(available.disk));
  return text;
}

nlohmann::ordered_json to_json(const WorkEstimate& estimate,
                               const std::optional<Machine>& machine) {
  nlohmann::ordered_json stages = nlohmann::ordered_json::array();
  double cpu = 0;
  double wall = 0;
  for (const StageEstimate& stage : estimate.stages) {
    nlohmann::ordered_json row = {{"name", stage.name},
                                  {"memory", estimate.program + stage.needs.memory},
                                  {"disk", stage.needs.disk}};
    if (machine) {
      row["cpu_seconds"] = machine->cpu_seconds(stage.needs);
      row["seconds"] = machine->wall_seconds(stage.needs);
      cpu += machine->cpu_seconds(stage.needs);
      wall += machine->wall_seconds(stage.needs);
    }
    stages.push_back(std::move(row));
  }
  nlohmann::ordered_json json = {
      {"stages", stages}, {"memory", estimate.memory()}, {"disk", estimate.disk()}};
  if (machine) {
    json["cpu_seconds"] = cpu;
    json["seconds"] = wall;
    json["machine"] = {{"threads", machine->threads},
                       {"products_per_second", machine->products},
                       {"products_per_second_together", machine->products_together},
                       {"loops_per_second", machine->loops},
                       {"bytes_per_second", machine->bytes},
                       {"file_bytes_per_second", machine->files},
                       {"share", machine->share}};
  }
  return json;
}

Machine measure_for(const WorkEstimate& estimate, const std::string& folder) {
  constexpr double kShort = 0.05;
  constexpr double kLong = 0.8;
  constexpr double kWorthMore = 20;  // seconds of work
  Machine machine = measure_machine(kShort, folder);
  double seconds = 0;
  for (const StageEstimate& stage : estimate.stages) {
    seconds += machine.wall_seconds(stage.needs);
  }
  return seconds > kWorthMore ? measure_machine(kLong, folder) : machine;
}

}  // namespace rwkv::press
