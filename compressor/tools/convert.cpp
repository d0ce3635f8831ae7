// rwkv-press convert: a checkpoint through a recipe into one packed file.
#include <filesystem>

#include "compressor/evaluate/device.h"
#include "compressor/pipeline/convert.h"
#include "compressor/recipe/commands.h"
#include "compressor/tools/commands.h"
#include "compressor/tools/plan_fit.h"
#include "formats/base/printable.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "formats/cli/progress.h"
#include "formats/cli/version.h"
#include "formats/tokenizer/chat_template.h"

namespace rwkv::press {

namespace fs = std::filesystem;

namespace {

// The recipe that the planner makes of one with a budget.
Result<Recipe> plan_first(const cxxopts::ParseResult& arguments, const Recipe& recipe,
                          const std::string& path) {
  RWKV_ASSIGN(const FitReport report, fit_from(arguments, recipe, path));
  cli::print("{}\n", summary(report));
  return parse_recipe(report.plan.recipe, recipe.name, {});
}

// "1.91 times smaller than", in words for what is not smaller too.
std::string compared(uint64_t before, uint64_t after) {
  constexpr double kNoDifference = 0.02;
  const double ratio = static_cast<double>(before) / static_cast<double>(after);
  return ratio > 1 + kNoDifference   ? fmt::format("{:.2f} times smaller than", ratio)
         : ratio > 1 - kNoDifference ? "about as large as"
                                     : fmt::format("{:.2f} times as large as", 1 / ratio);
}

// The last words: what became of the file, what a device will take, and what is missing.
Status print_result(const std::string& path, uint64_t before, const PackOptions& packed,
                    const PackPlan& plan) {
  const uint64_t after = fs::file_size(packed.output);
  cli::print("{}: {}, {} {} ({}); weights {} in fp16\n", packed.output, cli::human_bytes(after),
             compared(before, after), path, cli::human_bytes(before),
             compared(plan.fp16_bytes(), plan.total_bytes()));
  const auto device = device_report(packed.output);
  if (!device.ok()) {
    return failed("{}: is complete, but cannot be opened for the report: {}", packed.output,
                  device.status().message());
  }
  cli::print("{}\n{}", kDeviceHeading, device.value().text);
  if (!packed.vocabulary) {
    cli::print("{}", missing_vocabulary_note(plan.config.n_vocab));
  }
  return {};
}

// A bar for each thing that stages do, and their reports between.
Result<PackPlan> convert_with_progress(const PlannedInput& input, const Recipe& recipe,
                                       PipelineOptions options, const PackOptions& pack,
                                       bool quiet) {
  cli::Bars bars(quiet);
  options.progress = [&](const std::string& what, double share) { bars.update(what, share); };
  options.report = [&](const std::string& line) {
    bars.end();
    if (!quiet) {
      cli::print(stderr, "{}\n", printable(line, line.size()));
    }
  };
  options.warn = [&](const std::string& line) {
    bars.end();
    cli::print(stderr, "rwkv-press: warning: {}\n", printable(line, line.size()));
  };
  return convert_checkpoint(recipe, *input.checkpoint.source, input.model, options, pack);
}

// The input of stages that train.
Result<Work::Training> training_from(const cxxopts::ParseResult& arguments, const Recipe& recipe,
                                     const std::optional<Vocabulary>& vocabulary,
                                     const std::string& output) {
  Work::Training training;
  if (!trains(recipe)) {
    for (const char* option : {"train-data", "train-threads", "work", "resume", "shard"}) {
      if (arguments.count(option) > 0) {
        return usage_error("recipe {} has no training; remove --{}", recipe.name, option);
      }
    }
    return training;
  }
  if (arguments.count("train-data") > 0) {
    training.data = arguments["train-data"].as<std::vector<std::string>>();
  }
  training.vocabulary = vocabulary;
  training.folder =
      arguments.count("work") > 0 ? arguments["work"].as<std::string>() : output + ".work";
  training.resume = arguments.count("resume") > 0;
  RWKV_ASSIGN(training.threads, train_threads_from(arguments, "train-threads"));
  if (arguments.count("shard") > 0) {
    RWKV_ASSIGN(training.shard, parse_block_shard(arguments["shard"].as<std::string>()));
    if (!has_parts(recipe)) {
      return usage_error(
          "--shard: recipe {} has no part to be done alone; expected a stage train with mode: "
          "blocks "
          "and from: teacher",
          recipe.name);
    }
  }
  return training;
}

}  // namespace

void declare_convert(cxxopts::Options& options, std::vector<std::string>& positionals) {
  options.add_options()("input", "Checkpoint", cxxopts::value<std::string>(), "FILE")(
      "o,output", "Packed file to write", cxxopts::value<std::string>(), "FILE")(
      "vocab", "Vocabulary file, or 'bytes'", cxxopts::value<std::string>(), "FILE")(
      "name", "Name of the model, stored in the file", cxxopts::value<std::string>(), "NAME")(
      "chat-template",
      "How chats are written, stored in the file (default: that of a packed input, else as name "
      "and vocabulary suggest)",
      cxxopts::value<std::string>(), chat_template_names())(
      "train-data", "Text or token file for the recipe's training; may be repeated",
      cxxopts::value<std::vector<std::string>>(),
      "FILE")("train-threads",
              "Threads of the recipe's training (default: when resuming as many as before)",
              cxxopts::value<std::string>(), "N")(
      "work", "Folder for a training's snapshots and log (default OUTPUT.work)",
      cxxopts::value<std::string>(), "FOLDER")("resume", "Continue an interrupted training")(
      "shard",
      "Train only part i of n of the blocks, i/n from 1, into the work folder (train: {mode: "
      "blocks, "
      "from: teacher}); write no output",
      cxxopts::value<std::string>(),
      "I/N")("force", "Replace an existing output")("quiet", "Show no progress");
  declare_input_options(options);
  declare_merge_options(options);
  declare_calibration_options(options);
  declare_imatrix_option(options);
  declare_recipe_options(options);
  declare_external_option(options);
  positionals = {"input"};
}

Status run_convert(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "input"));
  RWKV_ASSIGN(const std::string output, cli::required(arguments, "output"));
  RWKV_ASSIGN(Recipe recipe, recipe_from(arguments));
  RWKV_TRY(allow_commands(arguments, commands_of(recipe), recipe.origin));
  RWKV_ASSIGN(const InputOptions from, input_options_from(arguments));
  const bool planned = recipe.budget.has_value();
  RWKV_ASSIGN(const MergeRequest merge, merge_from(arguments));
  if (planned && !merge.files.empty()) {
    return usage_error(
        "recipe {} has a budget, and its plan would not see what --merge changes: merge with "
        "rwkv-press export first, then convert the result",
        recipe.name);
  }
  PackOptions options;
  options.output = output;
  options.existing =
      arguments.count("force") > 0 ? OutputFile::Existing::Replace : OutputFile::Existing::Refuse;
  // Before hours of work, not after.
  RWKV_TRY(OutputFile::check(output, options.existing));
  if (planned) {
    RWKV_ASSIGN(const Checkpoint checkpoint, open_input(path, /*quiet=*/true));
    RWKV_TRY(refuse_own_input(arguments, checkpoint.is_packed));
    RWKV_ASSIGN(recipe, plan_first(arguments, recipe, path));
  }
  RWKV_ASSIGN(const PlannedInput input,
              plan_input(path, recipe, arguments.count("allow-requantize") > 0, from, merge));
  const ModelConfig& config = input.plan.config;
  RWKV_TRY(refuse_own_input(arguments, input.checkpoint.is_packed));

  RWKV_ASSIGN(options.model_name, arguments.count("name") > 0
                                      ? Result<std::string>(arguments["name"].as<std::string>())
                                      : checkpoint_name(path));
  options.tool_version = cli::kVersion;
  options.chat_template = input.checkpoint.chat_template;
  if (arguments.count("chat-template") > 0) {
    RWKV_ASSIGN(
        const ChatTemplate* chat_template,
        chat_template_named(arguments["chat-template"].as<std::string>(), "--chat-template"));
    options.chat_template = chat_template->name;
  }
  std::string note;
  const std::string vocab =
      arguments.count("vocab") > 0 ? arguments["vocab"].as<std::string>() : "";
  if (arguments.count("vocab") > 0 && vocab.empty()) {
    return usage_error("--vocab: expected a file or 'bytes', found an empty value");
  }
  RWKV_ASSIGN(options.vocabulary,
              choose_vocabulary(vocab, path, input.checkpoint, config.n_vocab, note));
  const bool quiet = arguments.count("quiet") > 0;
  if (!quiet) {
    cli::print(stderr, "{}: {} ({})\nrecipe: {}\nvocabulary: {}\n", path,
               describe(input.model.config), input.checkpoint.source->format(),
               printable(recipe.name), note);
    for (const std::string& line : input.notes) {
      cli::print(stderr, "{}\n", printable(line));
    }
    if (fs::path(output).extension() != ".gguf") {
      cli::print(stderr, "note: {} will be a GGUF file, whose name usually ends in .gguf\n",
                 output);
    }
  }
  // Now, since the output may replace the input.
  RWKV_ASSIGN(const uint64_t before, checkpoint_bytes(path));
  PipelineOptions pipeline;
  // A plan learns from text even if the recipe that it chose does not.
  if (!planned || needs_calibration(recipe)) {
    RWKV_ASSIGN(pipeline.calibration,
                calibration_from(arguments, recipe, options.vocabulary, config, path));
  }
  pipeline.scratch_folder = fs::path(output).parent_path().string();
  pipeline.allow_external = arguments.count("allow-external") > 0;
  RWKV_ASSIGN(pipeline.training, training_from(arguments, recipe, options.vocabulary, output));
  RWKV_ASSIGN(const PackPlan plan, convert_with_progress(input, recipe, pipeline, options, quiet));
  if (pipeline.training.shard) {
    cli::print(
        "part {} is done in {}; when all are, the same command with --resume instead of --shard "
        "writes {}\n",
        arguments["shard"].as<std::string>(), pipeline.training.folder, output);
    return {};
  }
  return print_result(path, before, options, plan);
}

}  // namespace rwkv::press
