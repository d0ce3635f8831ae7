// The report beside a packed file: what every tensor has become, and what every stage took, as JSON
// (docs/long_runs.md).
#pragma once

#include <cxxopts.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "compressor/estimate/estimate.h"
#include "compressor/pipeline/pack.h"
#include "compressor/recipe/recipe.h"
#include "compressor/stages/plan.h"
#include "compressor/tools/run_display.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// Declares --report and --no-report.
void declare_report_options(cxxopts::Options& options);
/// Where the report of `output` goes; empty: nowhere. Usage, before any work, for a file that is no
/// such report: a report replaces only its like.
Result<std::string> report_path(const cxxopts::ParseResult& arguments, const std::string& output);

struct ConversionReport {
  const Recipe& recipe;
  const PackPlan& plan;  ///< of the result
  const TensorSource& original;
  const PackOptions& packed;
  const WorkEstimate& estimate;
  std::optional<Machine> machine;
  const std::vector<StageRecord>& stages;
  const std::map<std::string, double>& output_errors;  ///< Work::errors
  nlohmann::ordered_json device, device_in_fp16;
};
/// Reads the packed file back, compares it with the checkpoint, and writes the report to `path`.
Status write_report(const ConversionReport& report, const std::string& path);

}  // namespace rwkv::press
