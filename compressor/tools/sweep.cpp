// rwkv-press sweep: converts and measures many recipes. Its child processes run sweep-point.
#include <ATen/Parallel.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <set>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/pipeline/pipeline.h"
#include "compressor/sweep/received.h"
#include "compressor/sweep/results.h"
#include "compressor/sweep/run.h"
#include "compressor/tools/commands.h"
#include "compressor/tools/estimating.h"
#include "compressor/tools/run_log.h"
#include "formats/base/file.h"
#include "formats/base/printable.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "formats/cli/version.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;
constexpr int64_t kMaxJobs = 256;

std::vector<std::string> texts(const cxxopts::ParseResult& arguments, const char* name) {
  return arguments.count(name) > 0 ? arguments[name].as<std::vector<std::string>>()
                                   : std::vector<std::string>();
}

std::string text(const cxxopts::ParseResult& arguments, const char* name) {
  return arguments.count(name) > 0 ? arguments[name].as<std::string>() : std::string();
}

// "2/8": the second of eight.
Status read_shard(const std::string& shard, SweepRun& run) {
  const size_t slash = shard.find('/');
  size_t index = 0;
  size_t n = 0;
  const auto parse = [](std::string_view digits, size_t& value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size();
  };
  if (slash == std::string::npos || !parse(std::string_view(shard).substr(0, slash), index) ||
      !parse(std::string_view(shard).substr(slash + 1), n) || index < 1 || index > n) {
    return usage_error("--shard: expected i/n with i from 1 to n, found '{}'", shard);
  }
  run.shard = index - 1;
  run.n_shards = n;
  return {};
}

Result<std::unique_ptr<Identified>> open_swept(const SweepInputs& inputs, Checkpoint& checkpoint,
                                               bool quiet) {
  RWKV_ASSIGN(checkpoint, open_input(inputs.checkpoint, quiet));
  RWKV_TRY(check_requantize(checkpoint, inputs.checkpoint, inputs.allow_requantize));
  RWKV_ASSIGN(Identified model, identify_input(checkpoint, {inputs.group_norm_eps, quiet}));
  return std::make_unique<Identified>(std::move(model));
}

Result<WorkerModel> worker_model(const SweepInputs& inputs, const Checkpoint& checkpoint,
                                 const Identified& model, std::string& note) {
  RWKV_ASSIGN(std::string name, checkpoint_name(inputs.checkpoint));
  WorkerModel worker{*checkpoint.source, model,
                     std::nullopt,       std::move(name),
                     cli::kVersion,      static_cast<unsigned>(std::max(1, at::get_num_threads()))};
  RWKV_ASSIGN(worker.vocabulary, choose_vocabulary(inputs.vocab, inputs.checkpoint, checkpoint,
                                                   model.config.n_vocab, note));
  return worker;
}

// Refuses missing files, and files that nothing would use, before any work.
Status check_inputs(const SweepRun& run, const WorkerModel& model) {
  bool learns = false;
  bool trains = false;
  for (const SweepPoint& point : run.plan.points) {
    learns |= !point.learns_from.empty();
    trains |= point.trained.has_value();
  }
  const SweepInputs& inputs = run.inputs;
  const bool has_text = !inputs.calibration.empty() || !inputs.statistics.empty();
  if (learns && !has_text) {
    return usage_error(
        "the sweep's recipes learn from text: name a file with --calibration, or a statistics file "
        "with --stats");
  }
  if (!learns && has_text) {
    return usage_error(
        "the sweep's recipes do not learn from text; remove --calibration and --stats");
  }
  if (!inputs.calibration.empty() && !inputs.statistics.empty()) {
    return usage_error(
        "expected either --calibration or --stats, found both; statistics contain their text");
  }
  if (!trains && !inputs.train_data.empty()) {
    return usage_error("the sweep's recipes have no training; remove --train-data");
  }
  if (run.settings.evaluation.empty()) {
    return {};
  }
  if (!model.vocabulary) {
    return usage_error(
        "texts cannot be split into tokens without a vocabulary; name one with --vocab");
  }
  return load_evaluation_sets(run.settings.evaluation.files).status();
}

// On a terminal, one line that is overwritten; otherwise, one line per point. Each line for the
// log.
class Display {
 public:
  Display(bool quiet, RunLog& log)
      : quiet_(quiet), is_terminal_(::isatty(STDERR_FILENO) != 0), log_(log) {}
  ~Display() {
    if (!quiet_ && is_terminal_ && is_open_) {
      cli::print(stderr, "\n");
    }
  }
  Display(const Display&) = delete;
  Display& operator=(const Display&) = delete;

  void show(const SweepProgress& progress) {
    log(progress);
    if (quiet_ || (!is_terminal_ && !progress.is_milestone)) {
      return;
    }
    std::string line = fmt::format("[{}/{}] ", progress.done, progress.total);
    if (progress.failed > 0) {
      line += fmt::format("{} failed; ", progress.failed);
    }
    line += printable(progress.current);
    if (!is_terminal_) {
      cli::print(stderr, "{}\n", line);
      return;
    }
    constexpr size_t kWidth = 100;
    line.resize(std::min(line.size(), kWidth));
    std::fputs("\r", stderr);
    cli::print(stderr, "{:<{}}{}", line, kWidth, progress.is_milestone ? "\n" : "");
    std::fflush(stderr);
    is_open_ = !progress.is_milestone;
  }

 private:
  // Points as they come, steps of a point once in a second.
  void log(const SweepProgress& progress) {
    const auto now = std::chrono::steady_clock::now();
    if (progress.is_milestone || now - logged_ >= std::chrono::seconds(1)) {
      logged_ = now;
      log_.write("progress", {{"done", progress.done},
                              {"failed", progress.failed},
                              {"points", progress.total},
                              {"what", progress.current}});
    }
  }

  bool quiet_;
  bool is_terminal_;
  bool is_open_ = false;
  RunLog& log_;
  std::chrono::steady_clock::time_point logged_;
};

Status report_only(const std::string& path) {
  const SweepFolder folder(path);
  RWKV_TRY(check_entries(folder));
  RWKV_ASSIGN(const Json results, collect_results(folder));
  RWKV_TRY(write_results(folder, results));
  cli::print("{}", results_table(results));
  return {};
}

// Each command once, in the order of the points.
std::vector<std::string> commands_in(const SweepPlan& plan) {
  std::vector<std::string> commands;
  for (const SweepPoint& point : plan.points) {
    for (const std::string& command : point.commands) {
      if (std::find(commands.begin(), commands.end(), command) == commands.end()) {
        commands.push_back(command);
      }
    }
  }
  return commands;
}

// The conversions of this run's points: stages with which recipes begin alike run once. Several at
// a time take their memory together. What is measured of the results is not in it.
Result<WorkEstimate> estimate_sweep(const SweepRun& run, const Identified& model) {
  RWKV_ASSIGN(const uint64_t source_bytes, checkpoint_bytes(run.inputs.checkpoint));
  WorkEstimate all;
  all.program = resident_bytes();
  std::set<std::string> seen;
  const size_t n = run.plan.points.size();
  for (size_t i = run.shard * n / run.n_shards; i < (run.shard + 1) * n / run.n_shards; ++i) {
    const SweepPoint& point = run.plan.points[i];
    RWKV_ASSIGN(const Recipe recipe, parse_recipe(point.recipe, point.label, {}));
    LearnsFrom text;
    if (!point.learns_from.empty()) {
      text = {recipe.calibration.samples, recipe.calibration.length,
              !run.inputs.statistics.empty()};
    }
    const Result<WorkEstimate> estimate = estimate_recipe(recipe, model, text, source_bytes);
    if (!estimate.ok()) {
      continue;  // the point fails in its turn, and does not stop the others
    }
    const WorkEstimate& one = estimate.value();
    std::string begins = point.learns_from;
    for (size_t stage = 0; stage < one.stages.size(); ++stage) {
      begins += "\n" + (stage < point.stages.size() ? point.stages[stage] : point.label);
      if (seen.insert(begins).second) {
        add_stage(all, one.stages[stage]);
      }
    }
    all.fewer_tokens =
        one.fewer_tokens.size() > all.fewer_tokens.size() ? one.fewer_tokens : all.fewer_tokens;
  }
  share_among_jobs(all, std::min(run.jobs, n));
  return all;
}

Result<SweepRun> run_from(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string input, cli::required(arguments, "input"));
  RWKV_ASSIGN(const std::string config, cli::required(arguments, "config"));
  RWKV_ASSIGN(const std::string output, cli::required(arguments, "output"));
  RWKV_ASSIGN(const std::string yaml, read_text_file(config, kMaxConfigBytes));
  RWKV_ASSIGN(SweepSettings settings, parse_sweep(yaml, config));
  EvaluationFiles& files = settings.evaluation.files;
  for (const auto& [option, chosen] :
       {std::pair("text", &files.texts), std::pair("cloze", &files.clozes),
        std::pair("choices", &files.choices)}) {
    if (arguments.count(option) > 0) {
      *chosen = texts(arguments, option);
    }
  }
  RWKV_ASSIGN(SweepPlan plan, plan_sweep(settings));
  RWKV_TRY(allow_commands(arguments, commands_in(plan), settings.recipe_origin));
  RWKV_ASSIGN(const InputOptions from, input_options_from(arguments));
  SweepRun run{std::move(settings), std::move(plan), {}, {}, SweepFolder(output)};
  run.inputs = {input,
                text(arguments, "vocab"),
                texts(arguments, "calibration"),
                text(arguments, "stats"),
                texts(arguments, "train-data"),
                arguments.count("allow-requantize") > 0,
                arguments.count("allow-external") > 0,
                from.group_norm_eps};
  if (arguments.count("vocab") > 0 && run.inputs.vocab.empty()) {
    return usage_error("--vocab: expected a file or 'bytes', found an empty value");
  }
  RWKV_ASSIGN(const int64_t jobs, cli::integer(arguments, "jobs", 1, kMaxJobs));
  run.jobs = static_cast<size_t>(jobs);
  if (arguments.count("shard") > 0) {
    RWKV_TRY(read_shard(text(arguments, "shard"), run));
  }
  run.keep_models = arguments.count("keep-models") > 0;
  run.changed = arguments.count("changed") > 0;
  run.retry_claimed = arguments.count("retry-claimed") > 0;
  return run;
}

}  // namespace

void declare_sweep(cxxopts::Options& options, std::vector<std::string>& positionals) {
  options.add_options()("input", "Checkpoint", cxxopts::value<std::string>(), "FILE")(
      "config", "What to vary and what to measure (YAML)", cxxopts::value<std::string>(), "FILE")(
      "o,output", "Folder for points and results; an unfinished sweep in it is continued",
      cxxopts::value<std::string>(),
      "FOLDER")("jobs", "Points to convert at a time; each gets its share of the threads",
                cxxopts::value<std::string>()->default_value("1"), "N")(
      "shard", "Work only on part i of n of the points: i/n, from 1", cxxopts::value<std::string>(),
      "I/N")("vocab", "Vocabulary file, or 'bytes'", cxxopts::value<std::string>(), "FILE")(
      "text", "Text to measure on, instead of the configuration's; may be repeated",
      cxxopts::value<std::vector<std::string>>(),
      "FILE")("cloze", "The same for texts whose last word the model must predict (.jsonl)",
              cxxopts::value<std::vector<std::string>>(),
              "FILE")("choices", "The same for multiple-choice questions (.jsonl, .jsonl.gz)",
                      cxxopts::value<std::vector<std::string>>(), "FILE")(
      "train-data", "Text or token file for recipes that train; may be repeated",
      cxxopts::value<std::vector<std::string>>(),
      "FILE")("allow-requantize", "Round values again that were rounded before")(
      "keep-models", "Keep the packed file of every point")(
      "retry-claimed", "Take over points that processes on other machines have claimed")(
      "changed", "Go on in a folder whose sweep had another configuration")(
      "report-only", "Only collect the results of this folder again", cxxopts::value<std::string>(),
      "FOLDER")("quiet", "Show no progress");
  declare_input_options(options);
  declare_calibration_options(options);
  declare_external_option(options);
  declare_estimate_options(options);
  RunLog::declare(options);
  positionals = {"input"};
}

Status run_sweep(const cxxopts::ParseResult& arguments) {
  if (arguments.count("report-only") > 0) {
    return report_only(text(arguments, "report-only"));
  }
  RWKV_TRY(refuse_own_input(arguments));
  RWKV_ASSIGN(SweepRun run, run_from(arguments));
  Checkpoint checkpoint;
  RWKV_ASSIGN(const auto identified, open_swept(run.inputs, checkpoint, false));
  std::string note;
  RWKV_ASSIGN(const WorkerModel model, worker_model(run.inputs, checkpoint, *identified, note));
  RWKV_TRY(check_inputs(run, model));
  RWKV_ASSIGN(run.fingerprint, Fingerprint::take(run.inputs, run.settings.evaluation,
                                                 model.vocabulary, cli::kVersion));
  const bool quiet = arguments.count("quiet") > 0;
  // A sweep goes on in its folder, and so does its log.
  RWKV_ASSIGN(const auto log, RunLog::from(arguments, /*appends=*/true));
  log->write("start", {{"command", "sweep"},
                       {"version", cli::kVersion},
                       {"input", run.inputs.checkpoint},
                       {"output", run.folder.path()},
                       {"points", run.plan.points.size()}});
  if (!quiet) {
    cli::print(stderr, "{}: {}\nvocabulary: {}\n{}: {} points, {} in this run\n",
               run.inputs.checkpoint, describe(identified->config), note, run.settings.origin,
               run.plan.points.size(),
               (run.shard + 1) * run.plan.points.size() / run.n_shards -
                   run.shard * run.plan.points.size() / run.n_shards);
  }
  RWKV_ASSIGN(const WorkEstimate estimate, estimate_sweep(run, *identified));
  RWKV_ASSIGN(const auto machine,
              tell_estimate(arguments, estimate, run.folder.path() + "/points", quiet));
  log->write("estimate", to_json(estimate, machine));
  Result<SweepOutcome> outcome = SweepOutcome();
  {
    Display display(quiet, *log);
    outcome = run_sweep_points(run, model,
                               [&](const SweepProgress& progress) { display.show(progress); });
  }
  if (!outcome.ok()) {
    log->write("error", {{"message", outcome.status().message()}});
    return outcome.status();
  }
  log->write("result", {{"output", run.folder.path()},
                        {"failed", outcome.value().failed},
                        {"missing", outcome.value().missing}});
  cli::print("{}", results_table(outcome.value().results));
  if (!quiet && outcome.value().missing > 0) {
    cli::print(
        stderr,
        "{} points are claimed by other processes; if none of those is alive, --retry-claimed "
        "takes them over\n",
        outcome.value().missing);
  }
  return outcome.value().failed == 0
             ? Status()
             : failed("{} points failed; see log.txt in their folders under {}/points",
                      outcome.value().failed, run.folder.path());
}

void declare_sweep_point(cxxopts::Options& /*options*/, std::vector<std::string>& positionals) {
  positionals = {};
}

Status run_sweep_point(const cxxopts::ParseResult& /*arguments*/) {
  const std::string input{std::istreambuf_iterator<char>(std::cin), {}};
  RWKV_ASSIGN(const SweepJob job, job_from_json(input));
  Checkpoint checkpoint;
  RWKV_ASSIGN(const auto identified, open_swept(job.inputs, checkpoint, true));
  std::string note;
  RWKV_ASSIGN(const WorkerModel model, worker_model(job.inputs, checkpoint, *identified, note));
  return run_job(job, model, [](const std::string& id, const std::string& what) {
    cli::print("{} {}\n", id, what);
    std::fflush(stdout);
  });
}

}  // namespace rwkv::press
