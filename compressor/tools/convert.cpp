// rwkv-press convert: a checkpoint through a recipe into one packed file.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "compressor/evaluate/device.h"
#include "compressor/evaluate/planned_account.h"
#include "compressor/pipeline/convert.h"
#include "compressor/recipe/commands.h"
#include "compressor/tools/commands.h"
#include "compressor/tools/conversion_identity.h"
#include "compressor/tools/conversion_report.h"
#include "compressor/tools/estimating.h"
#include "compressor/tools/plan_fit.h"
#include "compressor/tools/run_display.h"
#include "compressor/train/snapshot.h"
#include "formats/base/printable.h"
#include "formats/cli/command.h"
#include "formats/cli/interrupt.h"
#include "formats/cli/print.h"
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

// The same model with nothing but its matrices in half precision, to compare with.
struct InFp16 {
  DeviceReport device;
  uint64_t file_bytes = 0;
};
Result<InFp16> in_fp16(const PlannedInput& input, const PackOptions& options) {
  RWKV_ASSIGN(const Preset* preset, find_preset("fp16"));
  RWKV_ASSIGN(const Recipe recipe, parse_recipe(preset->yaml, preset->name, {}));
  RWKV_ASSIGN(const PackPlan plan, plan_stages(recipe, input.model));
  RWKV_ASSIGN(const uint64_t tokenizer, tokenizer_bytes(options.vocabulary));
  RWKV_ASSIGN(DeviceReport device, device_report(plan, tokenizer));
  RWKV_ASSIGN(const uint64_t bytes, PackedSize(*input.checkpoint.source, options).of(plan, recipe));
  return InFp16{std::move(device), bytes};
}

// A conversion whose options have been read and checked.
struct Job {
  const std::string& path;
  const Recipe& recipe;
  const PlannedInput& input;
  const PackOptions& options;
  PipelineOptions pipeline;
  std::string report;   ///< where it goes; empty: nowhere
  uint64_t before = 0;  ///< bytes of the checkpoint
};

// The last words: what became of the file, what a device will take, and what is missing.
Status finish(const Job& job, const Converted& converted, const WorkEstimate& estimate,
              const std::optional<Machine>& machine, const RunDisplay& display, RunLog& log) {
  const PackOptions& packed = job.options;
  const PackPlan& plan = converted.plan;
  const uint64_t after = fs::file_size(packed.output);
  cli::print("{}: {}, {} {} ({}); weights {} in fp16\n", packed.output, cli::human_bytes(after),
             compared(job.before, after), job.path, cli::human_bytes(job.before),
             compared(plan.fp16_bytes(), plan.total_bytes()));
  const auto device = device_report(packed.output);
  if (!device.ok()) {
    return failed("{}: is complete, but cannot be opened for the report: {}", packed.output,
                  device.status().message());
  }
  const auto fp16 = in_fp16(job.input, packed);
  const nlohmann::ordered_json nothing = nullptr;
  if (!job.report.empty()) {
    const ConversionReport report = {job.recipe,
                                     plan,
                                     *job.input.checkpoint.source,
                                     packed,
                                     estimate,
                                     machine,
                                     display.stages(),
                                     converted.output_errors,
                                     device.value().json,
                                     fp16.ok() ? fp16.value().device.json : nothing};
    const Status written = write_report(report, job.report);
    if (!written.ok()) {
      return failed("{}: is complete, but its report could not be written: {}", packed.output,
                    written.message());
    }
  }
  log.write("result",
            {{"output", packed.output},
             {"bytes", after},
             {"report", job.report.empty() ? nothing : nlohmann::ordered_json(job.report)},
             {"device", device.value().json},
             {"device_in_fp16", fp16.ok() ? fp16.value().device.json : nothing}});
  if (!job.report.empty()) {
    cli::print("report: {}\n", job.report);
  }
  cli::print("{}\n{}", kDeviceHeading, device.value().text);
  if (fp16.ok()) {
    cli::print(
        "{}", compare_devices(device.value(), after, fp16.value().device, fp16.value().file_bytes));
  }
  if (!packed.vocabulary) {
    cli::print("{}", missing_vocabulary_note(plan.config.n_vocab));
  }
  return {};
}

// Whether what stages make is worth keeping until the end: what only packs is done in seconds.
bool is_worth_keeping(const Recipe& recipe, bool has_calibration) {
  return needs_calibration(recipe) || trains(recipe) ||
         (has_calibration && may_use_calibration(recipe));
}

// A training whose snapshots are in the way is refused before the stages that come before it.
Status check_snapshots(const std::string& folder, bool may_resume) {
  if (may_resume || !fs::is_directory(folder)) {
    return {};
  }
  RWKV_ASSIGN(const std::vector<std::string> snapshots, snapshots_in(folder));
  return snapshots.empty()
             ? Status()
             : usage_error(
                   "{}: has snapshots of a training; continue from them with --resume, or remove "
                   "the folder",
                   folder);
}

// Where the stages of this conversion are kept, and which of them are there.
Result<std::unique_ptr<KeptStages>> keep_stages(const cxxopts::ParseResult& arguments,
                                                const Job& job, const MergeRequest& merge,
                                                RunDisplay& display) {
  const std::string& folder = job.pipeline.training.folder;
  const bool resume = arguments.count("resume") > 0;
  const auto note = [&](const std::string& line) { display.report(line); };
  // Parts of a training block by block share a folder, perhaps between machines.
  if (job.pipeline.training.shard) {
    return std::unique_ptr<KeptStages>();
  }
  if (!is_worth_keeping(job.recipe, job.pipeline.calibration.has_value())) {
    if (resume) {
      note("nothing of such a recipe is kept, since it only packs: it begins again");
    }
    return std::unique_ptr<KeptStages>();
  }
  if (trains(job.recipe)) {
    RWKV_TRY(check_snapshots(folder, resume));
  }
  CalibrationOptions files;
  RWKV_TRY(statistics_from(arguments, files));
  RWKV_ASSIGN(const ConversionIdentity identity,
              conversion_identity({job.path, job.input, merge, job.recipe, job.pipeline.calibration,
                                   files.statistics, job.pipeline.training}));
  RWKV_ASSIGN(auto kept, KeptStages::open(folder, identity, resume, note));
  if (trains(job.recipe) && kept->had_others()) {
    RWKV_TRY(check_snapshots(folder, /*may_resume=*/false));
  }
  if (resume) {
    note(kept->done() > 0 ? fmt::format("{}: {} of {} stages are finished; going on after them",
                                        folder, kept->done(), job.recipe.stages.size())
                          : fmt::format("{}: no finished stage; beginning with the first", folder));
  }
  return kept;
}

// Nothing stays of a conversion that ended before its first stage did.
void forget_beginning(const KeptStages* kept) {
  if (kept != nullptr && kept->done() == 0) {
    kept->remove();
  }
}

void connect(PipelineOptions& pipeline, RunDisplay& display) {
  pipeline.rewrites_progress = display.is_terminal();
  pipeline.progress = [&](const std::string& what, const Share& share) {
    display.progress(what, share);
  };
  pipeline.report = [&](const std::string& line) { display.report(line); };
  pipeline.warn = [&](const std::string& line) { display.warn(line); };
  pipeline.on_stage = [&](size_t index, size_t n, const std::string& name, bool ends) {
    display.stage(index, n, name, ends);
  };
}

Status convert(const cxxopts::ParseResult& arguments, Job job, const MergeRequest& merge,
               RunDisplay& display, RunLog& log) {
  const bool quiet = arguments.count("quiet") > 0;
  RWKV_ASSIGN(WorkEstimate estimate,
              estimate_recipe(job.recipe, job.input.model, learns_from(job.pipeline.calibration),
                              job.before));
  RWKV_ASSIGN(const auto kept, keep_stages(arguments, job, merge, display));
  for (size_t i = 0; kept && i < kept->done(); ++i) {
    estimate.stages[i].needs = {};  // finished before
  }
  job.pipeline.kept = kept.get();
  const auto told = tell_estimate(arguments, estimate, job.options.output, quiet);
  if (!told.ok()) {
    forget_beginning(kept.get());
    return told.status();
  }
  const std::optional<Machine>& machine = told.value();
  display.expect(estimate, machine);
  const std::string folder = job.pipeline.training.folder;
  if (kept) {
    cli::set_interrupt_note(fmt::format(
        "rwkv-press: finished stages are kept in {}; --resume goes on after them", folder));
  }
  connect(job.pipeline, display);
  const auto converted = convert_checkpoint(job.recipe, *job.input.checkpoint.source,
                                            job.input.model, job.pipeline, job.options);
  display.end_line();
  if (!converted.ok()) {
    forget_beginning(kept.get());
    if (kept && kept->done() > 0) {
      display.report(fmt::format("{} of {} stages are kept in {}; --resume goes on from there",
                                 kept->done(), job.recipe.stages.size(), folder));
    }
    return converted.status();
  }
  if (job.pipeline.training.shard) {
    log.write("result", {{"part", arguments["shard"].as<std::string>()}});
    cli::print(
        "part {} is done in {}; when all are, the same command with --resume instead of --shard "
        "writes {}\n",
        arguments["shard"].as<std::string>(), folder, job.options.output);
    return {};
  }
  return finish(job, converted.value(), estimate, machine, display, log);
}

// The work folder, and the input of stages that train.
Result<Work::Training> training_from(const cxxopts::ParseResult& arguments, const Recipe& recipe,
                                     const std::optional<Vocabulary>& vocabulary,
                                     const std::string& output) {
  Work::Training training;
  training.folder =
      arguments.count("work") > 0 ? arguments["work"].as<std::string>() : output + ".work";
  if (!trains(recipe)) {
    for (const char* option : {"train-data", "train-threads", "shard", "device"}) {
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
  training.resume = arguments.count("resume") > 0;
  RWKV_ASSIGN(training.threads, train_threads_from(arguments, "train-threads"));
  RWKV_ASSIGN(training.device, device_from(arguments));
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
      "work",
      "Folder for finished stages, until the end, and for a training's snapshots and log (default "
      "OUTPUT.work)",
      cxxopts::value<std::string>(),
      "FOLDER")("resume", "Continue an interrupted conversion after its last finished stage")(
      "shard",
      "Train only part i of n of the blocks, i/n from 1, into the work folder (train: {mode: "
      "blocks, from: teacher}); write no output",
      cxxopts::value<std::string>(),
      "I/N")("force", "Replace an existing output")("quiet", "Show no progress");
  declare_input_options(options);
  declare_merge_options(options);
  declare_calibration_options(options);
  declare_imatrix_option(options);
  declare_recipe_options(options);
  declare_device_option(options, "a training computes");
  declare_external_option(options);
  declare_estimate_options(options);
  declare_report_options(options);
  RunLog::declare(options);
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
  RWKV_ASSIGN(const std::string report, report_path(arguments, output));
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
  RWKV_ASSIGN(const auto log, RunLog::from(arguments, arguments.count("resume") > 0));
  log->write("start", {{"command", "convert"},
                       {"version", cli::kVersion},
                       {"input", path},
                       {"output", output},
                       {"recipe", recipe.effective_yaml()}});
  RunDisplay display(quiet, *log);
  const Status status =
      convert(arguments, {path, recipe, input, options, std::move(pipeline), report, before}, merge,
              display, *log);
  cli::set_interrupt_note("");
  if (!status.ok()) {
    log->write("error", {{"message", status.message()}});
  }
  return status;
}

}  // namespace rwkv::press
