// rwkv-press plan --fit: the recipe of least loss that fits in a number of bytes.
#include "compressor/tools/plan_fit.h"

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "compressor/planner/needs.h"
#include "compressor/planner/rank_correlation.h"
#include "compressor/tools/commands.h"
#include "compressor/tools/estimating.h"
#include "formats/base/output_file.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "formats/cli/progress.h"
#include "formats/cli/version.h"

namespace rwkv::press {
namespace {

std::string memory_text(const MemoryFrame& frame) {
  const edge::MemoryOptions& memory = frame.memory;
  std::string text = fmt::format("--memory {}", edge::mode_traits(*memory.mode).name);
  if (*memory.mode == edge::MemoryMode::Sparse) {
    text += fmt::format(" --neuron-cache {} --head-cache {} --embedding-cache {}",
                        *memory.neuron_cache, *memory.head_cache, *memory.embedding_rows);
  }
  if (memory.limit > 0) {
    text += fmt::format(" --memory-limit {}", memory.limit);
  }
  return text;
}

nlohmann::ordered_json choice_to_json(const PlannedChoice& planned) {
  return {{"memory", edge::mode_traits(*planned.frame.memory.mode).name},
          {"options", memory_text(planned.frame)},
          {"recall", planned.choice.recall},
          {"p_min", planned.choice.p_min},
          {"resident", planned.footprint.resident},
          {"file", planned.footprint.file},
          {"touched_per_token", planned.footprint.touched},
          {"read_ahead", planned.frame.read_ahead}};
}

double sampled_correlation(const FitReport& report) {
  std::vector<double> estimated;
  std::vector<double> measured;
  for (const SampledChoice& choice : report.samples) {
    estimated.push_back(choice.estimated);
    measured.push_back(choice.measured);
  }
  return rank_correlation(estimated, measured);
}

void print_json(const FitReport& report) {
  const PlanReport& plan = report.plan;
  nlohmann::ordered_json matrices = nlohmann::ordered_json::array();
  for (size_t i = 0; i < report.matrices.size(); ++i) {
    const MatrixSetting& setting = plan.planned.choice.matrices[i];
    matrices.push_back({{"name", report.matrices[i].name},
                        {"factor", setting.factor},
                        {"codec", codec_traits(setting.codec).name},
                        {"kl", plan.matrix_losses[i]}});
  }
  nlohmann::ordered_json json = {{"model", report.model},
                                 {"budget", report.request.resident},
                                 {"size_budget", report.request.size},
                                 {"dense_loss", plan.dense_loss},
                                 {"predicted",
                                  {{"loss", plan.predicted_loss},
                                   {"kl", plan.planned.loss},
                                   {"resident", plan.planned.footprint.resident},
                                   {"file", plan.planned.footprint.file}}},
                                 {"choice", choice_to_json(plan.planned)},
                                 {"matrices", matrices},
                                 {"recipe", plan.recipe}};
  if (plan.is_checked) {
    json["measured"] = {{"loss", plan.measured.nats_per_token},
                        {"standard_error", plan.measured.standard_error},
                        {"kl", plan.measured.kl},
                        {"resident", plan.measured.resident},
                        {"file", plan.file_bytes}};
  }
  if (plan.uniform) {
    json["uniform"] = choice_to_json(*plan.uniform);
    json["uniform"]["setting"] = describe(plan.uniform->choice.matrices[1]);
    json["uniform"]["recipe"] = plan.uniform_recipe;
    json["uniform"]["predicted_loss"] = plan.dense_loss + plan.uniform->nats;
    json["uniform"]["predicted_kl"] = plan.uniform->loss;
  }
  if (!report.samples.empty()) {
    json["estimates"] = {{"measured_too", report.samples.size()},
                         {"rank_correlation", sampled_correlation(report)}};
  }
  if (report.request.min_speed > 0) {
    json["predicted"]["tokens_per_second"] = plan.predicted_speed;
    if (plan.is_checked) {
      json["measured"]["tokens_per_second"] = plan.measured.tokens_per_second;
    }
  }
  cli::print_json(json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

// What was predicted, and what was measured if the plan was packed.
void print_figures(const FitReport& report) {
  const PlanReport& plan = report.plan;
  const auto row = [&](const char* what, const std::string& predicted,
                       const std::string& measured) {
    cli::print("{:<26} {:>14} {:>14}\n", what, predicted,
               plan.is_checked ? measured : std::string());
  };
  const auto bytes = [&](const char* what, uint64_t predicted, uint64_t measured) {
    row(what, fmt::format("{}", predicted), fmt::format("{}", measured));
  };
  const auto real = [&](const char* what, double predicted, double measured, int digits) {
    row(what, fmt::format("{:.{}f}", predicted, digits), fmt::format("{:.{}f}", measured, digits));
  };
  cli::print("\n");
  row("", "predicted", "measured");
  bytes("resident bytes", plan.planned.footprint.resident, plan.measured.resident);
  if (plan.planned.frame.read_ahead > 0) {
    row("read for a token, at most", fmt::format("{}", plan.planned.frame.read_ahead), "");
  }
  bytes("bytes of the file", plan.planned.footprint.file, plan.file_bytes);
  real("nats per token", plan.predicted_loss, plan.measured.nats_per_token, 5);
  real("KL from the dense model", plan.planned.loss, plan.measured.kl, 5);
  if (report.request.min_speed > 0) {
    real("tokens per second", plan.predicted_speed, plan.measured.tokens_per_second, 1);
  }
  if (!plan.is_checked) {
    cli::print("not packed and measured: that takes a conversion (--set budget.check=packed)\n");
  }
}

void print_text(const FitReport& report) {
  const PlanReport& plan = report.plan;
  const PlannedChoice& planned = plan.planned;
  cli::print("{}\n\n{:<34} {:<18} {:>14}\n", report.model, "matrix", "setting", "KL by itself");
  for (size_t i = 0; i < report.matrices.size(); ++i) {
    cli::print("{:<34} {:<18} {:>14.5f}\n", report.matrices[i].name,
               describe(planned.choice.matrices[i]), plan.matrix_losses[i]);
  }
  const auto rows = [](const char* name, const char* key, const RowsPoint& point) {
    cli::print("{:<34} {:<18} {:>14.5f}\n", name,
               point.value > 0 ? fmt::format("{} {}", key, point.value) : "none", point.loss);
  };
  rows("ffn_predictor", "recall", planned.frame.ffn);
  rows("cluster_head", "p_min", planned.frame.head);
  cli::print("\n{:<14} {:>14} {:>12}\n", "component", "resident bytes", "of it cache");
  for (const edge::ComponentTraits& traits : edge::component_list()) {
    const edge::ComponentBytes& bytes = planned.footprint.account.at(traits.component);
    if (bytes.resident > 0) {
      cli::print("{:<14} {:>14} {:>12}\n", traits.name, bytes.resident, bytes.cached);
    }
  }
  print_figures(report);
  cli::print("dense model: {:.5f} nats per token\n", plan.dense_loss);
  if (!report.samples.empty()) {
    cli::print(
        "losses of matrices are estimates; {} of them were measured too, rank correlation {:.2f}\n",
        report.samples.size(), sampled_correlation(report));
  }
  if (plan.uniform) {
    cli::print("best with all matrices alike: {:.5f} nats per token, KL {:.5f}, in {} bytes ({})\n",
               plan.dense_loss + plan.uniform->nats, plan.uniform->loss,
               plan.uniform->footprint.resident, describe(plan.uniform->choice.matrices[1]));
  }
  cli::print("run it with: {}\n", memory_text(planned.frame));
}

Status write_recipe(const std::string& path, const FitReport& report, bool replace) {
  RWKV_ASSIGN(const auto file, OutputFile::create(path, replace ? OutputFile::Existing::Replace
                                                                : OutputFile::Existing::Refuse));
  const std::string text = fmt::format("# {}\n# Run what it makes with: {}\n{}", summary(report),
                                       memory_text(report.plan.planned.frame), report.plan.recipe);
  RWKV_TRY(file->write(std::as_bytes(std::span(text))));
  return file->commit();
}

}  // namespace

Result<FitReport> fit_from(const cxxopts::ParseResult& arguments, const Recipe& recipe,
                           const std::string& path) {
  RWKV_ASSIGN(const InputOptions from, input_options_from(arguments));
  RWKV_ASSIGN(const Checkpoint checkpoint, open_input(path, from.quiet));
  RWKV_TRY(check_requantize(checkpoint, path, arguments.count("allow-requantize") > 0));
  RWKV_ASSIGN(const Identified model, identify_input(checkpoint, from));
  FitOptions options;
  options.path = path;
  options.tool_version = cli::kVersion;
  std::string note;
  const std::string vocab =
      arguments.count("vocab") > 0 ? arguments["vocab"].as<std::string>() : "";
  RWKV_ASSIGN(options.vocabulary,
              choose_vocabulary(vocab, path, checkpoint, model.config.n_vocab, note));
  if (arguments.count("calibration") > 0) {
    options.calibration = arguments["calibration"].as<std::vector<std::string>>();
  }
  if (arguments.count("text") > 0) {
    RWKV_ASSIGN(options.text, cli::required(arguments, "text"));
  }
  if (arguments.count("curves") > 0) {
    RWKV_ASSIGN(options.curves, cli::required(arguments, "curves"));
  }
  if (arguments.count("quiet") == 0) {
    cli::print(stderr, "{}: {}\nvocabulary: {}\nmeasuring what each matrix costs\n", path,
               describe(model.config), note);
  }
  RWKV_ASSIGN(const uint64_t source_bytes, checkpoint_bytes(path));
  RWKV_ASSIGN(const WorkEstimate estimate, estimate_plan(recipe, model, source_bytes));
  std::error_code ignored;
  // Packed files that are measured lie in the folder of temporary files.
  const auto temporary = std::filesystem::temp_directory_path(ignored) / "plan";
  RWKV_TRY(tell_estimate(arguments, estimate, temporary.string(), arguments.count("quiet") > 0)
               .status());
  const auto bars = std::make_shared<cli::Bars>(arguments.count("quiet") > 0);
  options.progress = [bars](const std::string& what, double share) { bars->update(what, share); };
  return fit_budget(*checkpoint.source, model, recipe, options);
}

void declare_fit_options(cxxopts::Options& options) {
  options.add_options()("fit",
                        "Choose the recipe of least loss that fits in this memory, e.g. 200MB",
                        cxxopts::value<std::string>(), "SIZE")(
      "size", "The same for bytes of the packed file, e.g. 150MB; with --fit: both",
      cxxopts::value<std::string>(),
      "SIZE")("min-speed", "With --fit: tokens per second that must be reached",
              cxxopts::value<std::string>(), "N")(
      "read-speed",
      "With --fit and --min-speed: bytes per second of the storage; weights may be streamed",
      cxxopts::value<std::string>(),
      "SIZE")("text", "With --fit: text that losses are measured on", cxxopts::value<std::string>(),
              "FILE")("curves", "With --fit: file that keeps what was measured, for plans to come",
                      cxxopts::value<std::string>(), "FILE")("vocab", "Vocabulary file, or 'bytes'",
                                                             cxxopts::value<std::string>(), "FILE")(
      "o,output", "With --fit: recipe to write", cxxopts::value<std::string>(), "FILE")(
      "force", "Replace an existing output")("quiet", "No progress");
}

Result<std::optional<Recipe>> budget_recipe(const cxxopts::ParseResult& arguments) {
  std::string budget;
  std::string name = "plan";
  for (const auto& [option, key] : {std::pair("fit", "resident"), std::pair("size", "size")}) {
    if (arguments.count(option) > 0) {
      RWKV_ASSIGN(const std::string size, cli::required(arguments, option));
      RWKV_ASSIGN(const uint64_t bytes, cli::byte_size(arguments, option, 0));
      budget += fmt::format("{}{}: {}", budget.empty() ? "" : ", ", key, bytes);
      name += "-" + size;
    }
  }
  for (const char* option : {"min-speed", "read-speed"}) {
    if (budget.empty() && arguments.count(option) > 0) {
      return usage_error(
          "--{} is a part of a budget; give --fit SIZE too, or say it in the "
          "recipe's budget",
          option);
    }
  }
  if (budget.empty() && arguments.count("recipe") == 0) {
    return std::optional<Recipe>();
  }
  if (budget.empty()) {
    RWKV_ASSIGN(Recipe recipe, recipe_from(arguments));
    return recipe.budget ? std::optional<Recipe>(std::move(recipe)) : std::optional<Recipe>();
  }
  if (arguments.count("recipe") + arguments.count("preset") > 0) {
    return usage_error("--fit and --size make the recipe; leave --recipe and --preset out");
  }
  if (arguments.count("min-speed") > 0) {
    RWKV_ASSIGN(const double speed, cli::real(arguments, "min-speed", 0, 1e9));
    budget += fmt::format(", min_speed: {}", speed);
  }
  if (arguments.count("read-speed") > 0) {
    RWKV_ASSIGN(const uint64_t speed, cli::byte_size(arguments, "read-speed", 0));
    budget += fmt::format(", read_speed: {}", speed);
  }
  std::vector<std::string> overrides;
  if (arguments.count("set") > 0) {
    overrides = arguments["set"].as<std::vector<std::string>>();
  }
  RWKV_ASSIGN(Recipe recipe, parse_recipe(fmt::format("budget: {{{}}}", budget), name, overrides));
  return std::optional<Recipe>(std::move(recipe));
}

Status run_plan_fit(const cxxopts::ParseResult& arguments, const Recipe& recipe) {
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "input"));
  const bool replace = arguments.count("force") > 0;
  std::string output;
  RWKV_TRY(refuse_own_input(arguments));
  if (arguments.count("output") > 0) {
    RWKV_ASSIGN(output, cli::required(arguments, "output"));
    // Before minutes of work, not after.
    RWKV_TRY(OutputFile::check(
        output, replace ? OutputFile::Existing::Replace : OutputFile::Existing::Refuse));
  }
  RWKV_ASSIGN(const FitReport report, fit_from(arguments, recipe, path));
  if (arguments.count("json") > 0) {
    print_json(report);
  } else {
    print_text(report);
  }
  return output.empty() ? Status() : write_recipe(output, report, replace);
}

}  // namespace rwkv::press
