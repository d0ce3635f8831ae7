#include "compressor/tools/estimating.h"

#include "compressor/numerics/tensor_ops.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"

namespace rwkv::press {

void declare_estimate_options(cxxopts::Options& options) {
  options.add_options()("max-memory",
                        "Refuse work that is expected to take more, e.g. 8GB (default: what is "
                        "available)",
                        cxxopts::value<std::string>(), "SIZE")(
      "ignore-estimate", "Start even if memory or disk are expected not to suffice");
}

Result<Available> available_from(const cxxopts::ParseResult& arguments, const std::string& output) {
  RWKV_ASSIGN(const uint64_t most, cli::byte_size(arguments, "max-memory", 0));
  return available_for(output, most);
}

Status refuse_unfit(const cxxopts::ParseResult& arguments, const WorkEstimate& estimate,
                    const Available& available) {
  return arguments.count("ignore-estimate") > 0 ? Status() : check_fits(estimate, available);
}

Result<std::optional<Machine>> tell_estimate(const cxxopts::ParseResult& arguments,
                                             const WorkEstimate& estimate,
                                             const std::string& output, bool quiet) {
  RWKV_ASSIGN(const Available available, available_from(arguments, output));
  std::optional<Machine> machine;
  if (!quiet) {
    machine = measure_for(estimate, available.folder);
    cli::print(stderr, "{}", describe(estimate, machine, available));
  }
  RWKV_TRY(refuse_unfit(arguments, estimate, available));
  return machine;
}

LearnsFrom learns_from(const std::optional<Calibration>& calibration) {
  LearnsFrom text;
  if (calibration) {
    text.has_moments = calibration->statistics != nullptr;
    if (calibration->tokens.defined() && calibration->tokens.dim() == 2) {
      text.samples = static_cast<uint64_t>(calibration->tokens.size(0));
      text.length = static_cast<uint64_t>(calibration->tokens.size(1));
    }
  }
  return text;
}

}  // namespace rwkv::press
