// rwkv-press plan: what convert would do, tensor by tensor, without doing it.
#include <nlohmann/json.hpp>

#include "compressor/evaluate/device.h"
#include "compressor/evaluate/planned_account.h"
#include "compressor/recipe/commands.h"
#include "compressor/tools/commands.h"
#include "compressor/tools/estimating.h"
#include "compressor/tools/plan_fit.h"
#include "formats/base/printable.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"

namespace rwkv::press {
namespace {

void print_table(const PackPlan& plan) {
  cli::print("{:<36} {:<10} {:>16} {:<8} {:>14}\n", "tensor", "role", "shape", "codec", "bytes");
  for (const PlannedTensor& tensor : plan.tensors) {
    cli::print("{:<36} {:<10} {:>16} {:<8} {:>14}\n", tensor.binding.name,
               role_traits(tensor.binding.role).name, shape_to_string(tensor.binding.shape),
               codec_traits(tensor.codec).name, tensor.encoded_bytes());
  }
  for (const PlannedCopy& copy : copies_of(plan)) {
    cli::print("{:<36} {:<10} {:>16} {:<8} {:>14}\n", copy.name, "copy",
               shape_to_string(std::vector<uint64_t>{copy.rows, copy.cols}),
               codec_traits(copy.codec).name, copy.encoded_bytes());
  }
}

void print_totals(const PackPlan& plan) {
  cli::print("\n{:<10} {:>14} {:>8}\n", "codec", "bytes", "share");
  for (const CodecTraits& codec : codec_list()) {
    uint64_t bytes = 0;
    for (const PlannedTensor& tensor : plan.tensors) {
      bytes += tensor.codec == codec.codec ? tensor.encoded_bytes() : 0;
    }
    if (bytes > 0) {
      cli::print("{:<10} {:>14} {:>6.1f} %\n", codec.name, bytes,
                 100.0 * static_cast<double>(bytes) / static_cast<double>(plan.total_bytes()));
    }
  }
  cli::print("total      {:>14}  {}; in fp16 {}\n", plan.total_bytes(),
             cli::human_bytes(plan.total_bytes()), cli::human_bytes(plan.fp16_bytes()));
  if (const uint64_t bytes = copy_bytes(plan); bytes > 0) {
    cli::print(
        "copies     {:>14}  {} of narrower rows besides, at most: operating points may use "
        "fewer; together {}\n",
        bytes, cli::human_bytes(bytes), cli::human_bytes(plan.total_bytes() + bytes));
  }
}

void print_json(const PackPlan& plan, const Recipe& recipe, const DeviceReport& device,
                const WorkEstimate& estimate, const Machine& machine) {
  nlohmann::ordered_json tensors = nlohmann::ordered_json::array();
  for (const PlannedTensor& tensor : plan.tensors) {
    tensors.push_back({{"name", tensor.binding.name},
                       {"role", role_traits(tensor.binding.role).name},
                       {"shape", tensor.binding.shape},
                       {"codec", codec_traits(tensor.codec).name},
                       {"bytes", tensor.encoded_bytes()}});
  }
  nlohmann::ordered_json copies = nlohmann::ordered_json::array();
  for (const PlannedCopy& copy : copies_of(plan)) {
    copies.push_back({{"name", copy.name},
                      {"codec", codec_traits(copy.codec).name},
                      {"bytes", copy.encoded_bytes()}});
  }
  const nlohmann::ordered_json report = {
      {"model", describe(plan.config)},
      {"recipe", recipe.effective_yaml()},
      {"tensors", tensors},
      {"copies", copies},
      {"copy_bytes", copy_bytes(plan)},
      {"total_bytes", plan.total_bytes()},
      {"fp16_bytes", plan.fp16_bytes()},
      {"device", device.json},
      {"estimate", to_json(estimate, machine)},
      {"ratio_to_fp16",
       static_cast<double>(plan.fp16_bytes()) / static_cast<double>(plan.total_bytes())}};
  cli::print_json(report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace

void declare_plan(cxxopts::Options& options, std::vector<std::string>& positionals) {
  options.add_options()("input", "Checkpoint", cxxopts::value<std::string>(), "FILE")("json",
                                                                                      "Print JSON");
  declare_input_options(options);
  declare_calibration_options(options);
  declare_fit_options(options);
  declare_recipe_options(options);
  declare_external_option(options);
  declare_estimate_options(options);
  positionals = {"input"};
}

Status run_plan(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "input"));
  RWKV_ASSIGN(const std::optional<Recipe> budgeted, budget_recipe(arguments));
  if (budgeted) {
    return run_plan_fit(arguments, *budgeted);
  }
  for (const char* option : {"min-speed", "text", "curves", "output", "calibration", "stats"}) {
    if (arguments.count(option) > 0) {
      return usage_error("--{} belongs to planning for a budget (--fit or --size)", option);
    }
  }
  RWKV_ASSIGN(const Recipe recipe, recipe_from(arguments));
  RWKV_TRY(
      check_commands(commands_of(recipe), recipe.origin, arguments.count("allow-external") > 0));
  RWKV_ASSIGN(const InputOptions from, input_options_from(arguments));
  RWKV_ASSIGN(const PlannedInput input,
              plan_input(path, recipe, arguments.count("allow-requantize") > 0, from));
  // The vocabulary that convert would pack counts too; one that is only found and cannot be read is
  // convert's matter.
  std::string note;
  const std::string named =
      arguments.count("vocab") > 0 ? arguments["vocab"].as<std::string>() : "";
  const auto vocabulary =
      choose_vocabulary(named, path, input.checkpoint, input.plan.config.n_vocab, note);
  if (!named.empty()) {
    RWKV_TRY(vocabulary.status());
  }
  RWKV_ASSIGN(const uint64_t tokenizer,
              vocabulary.ok() ? tokenizer_bytes(vocabulary.value()) : Result<uint64_t>(0));
  RWKV_ASSIGN(const DeviceReport device, device_report(input.plan, tokenizer));
  RWKV_ASSIGN(const uint64_t source_bytes, checkpoint_bytes(path));
  // Without text a recipe that only may learn from it does not.
  LearnsFrom text;
  if (needs_calibration(recipe)) {
    text = {recipe.calibration.samples, recipe.calibration.length, false};
  }
  RWKV_ASSIGN(const WorkEstimate estimate,
              estimate_recipe(recipe, input.model, text, source_bytes));
  RWKV_ASSIGN(const Available available, available_from(arguments, path));
  const Machine machine = measure_for(estimate, available.folder);
  if (arguments.count("json") > 0) {
    print_json(input.plan, recipe, device, estimate, machine);
    return {};
  }
  cli::print("{}: {}\n{}\n", path, describe(input.model.config),
             printable_lines(recipe.effective_yaml()));
  print_table(input.plan);
  print_totals(input.plan);
  cli::print("{}\n{}", kDeviceHeading, device.text);
  cli::print("{} of a conversion{}", "estimate",
             describe(estimate, machine, available).substr(std::string_view("estimate").size()));
  const Status fits = refuse_unfit(arguments, estimate, available);
  if (!fits.ok()) {
    cli::print("it does not fit: {}\n", fits.message());
  }
  return {};
}

}  // namespace rwkv::press
