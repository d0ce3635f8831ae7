// rwkv-press train: trains a checkpoint or a new model.
#include <algorithm>
#include <array>
#include <filesystem>

#include "compressor/checkpoint/edited_source.h"
#include "compressor/checkpoint/write.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/tools/commands.h"
#include "compressor/tools/estimating.h"
#include "compressor/tools/run_display.h"
#include "compressor/train/config.h"
#include "compressor/train/initial_values.h"
#include "compressor/train/needs.h"
#include "compressor/train/progress.h"
#include "formats/arch/versions.h"
#include "formats/base/printable.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "formats/cli/version.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;

// The model to train: an opened checkpoint, or a new one.
struct Subject {
  std::optional<Checkpoint> checkpoint;
  std::unique_ptr<MemorySource> made;
  std::unique_ptr<EditedSource> begun;  ///< over the checkpoint, with a state to be tuned
  Identified model;
  const TensorSource& source() const {
    return begun        ? static_cast<const TensorSource&>(*begun)
           : checkpoint ? *checkpoint->source
                        : *made;
  }
};

bool tunes_state(const TrainConfig& config) {
  const auto& patterns = config.train.parameters;
  return std::find(patterns.begin(), patterns.end(), kStateParameters) != patterns.end();
}

// Adds a state of zeros to the blocks that have none.
Status add_state(Subject& subject, const std::string& folder) {
  const ModelConfig& config = subject.model.config;
  constexpr std::array kWithState = {Version::V5_2, Version::V6, Version::V7, Version::V7a};
  if (std::find(kWithState.begin(), kWithState.end(), config.version) == kWithState.end()) {
    return usage_error("train.parameters: v5.2, v6 and v7 begin with a state; this model is {}",
                       version_traits(config.version).name);
  }
  RWKV_ASSIGN(subject.begun, EditedSource::create(subject.source(), folder));
  const std::vector<float> zeros(config.wkv_floats());
  for (uint64_t block = 0; block < config.n_layer; ++block) {
    const std::string name = fmt::format("blocks.{}.att.time_state", block);
    if (!subject.begun->index_of(name).ok()) {
      RWKV_TRY(
          subject.begun->put(name, {config.n_head, config.head_size, config.head_size}, zeros));
    }
  }
  RWKV_ASSIGN(subject.model, identify_checkpoint(*subject.begun));
  return {};
}

Result<TrainConfig> config_from(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "config"));
  RWKV_ASSIGN(const std::string text, read_text_file(path, kMaxConfigBytes));
  std::vector<std::string> overrides;
  if (arguments.count("set") > 0) {
    overrides = arguments["set"].as<std::vector<std::string>>();
  }
  RWKV_ASSIGN(TrainConfig config, parse_train_config(text, path, overrides));
  if (arguments.count("data") > 0) {
    config.train.data = arguments["data"].as<std::vector<std::string>>();
  }
  if (arguments.count("valid") > 0) {
    config.train.valid = arguments["valid"].as<std::vector<std::string>>();
  }
  return config;
}

Result<Checkpoint> open_trainable(const cxxopts::ParseResult& arguments, const char* option) {
  const std::string path = arguments[option].as<std::string>();
  RWKV_ASSIGN(Checkpoint checkpoint, open_input(path, arguments.count("quiet") > 0));
  RWKV_TRY(check_requantize(checkpoint, path, arguments.count("allow-requantize") > 0));
  return checkpoint;
}

Result<Subject> subject_from(const cxxopts::ParseResult& arguments, const TrainConfig& config) {
  Subject subject;
  if (arguments.count("input") > 0) {
    if (config.model) {
      return usage_error(
          "expected either INPUT or a 'model' in the configuration, found both; remove one of "
          "them");
    }
    RWKV_ASSIGN(const InputOptions from, input_options_from(arguments));
    RWKV_ASSIGN(subject.checkpoint, open_trainable(arguments, "input"));
    RWKV_ASSIGN(subject.model, identify_input(*subject.checkpoint, from));
  } else {
    if (!config.model) {
      return usage_error(
          "there is nothing to train; name a checkpoint, or add a 'model' to the configuration");
    }
    RWKV_ASSIGN(subject.made, initial_model(*config.model, config.initial));
    RWKV_ASSIGN(subject.model, identify_checkpoint(*subject.made));
  }
  return subject;
}

Result<DType> dtype_from(const cxxopts::ParseResult& arguments) {
  const std::string name = arguments["dtype"].as<std::string>();
  const DTypeTraits* dtype = find_dtype(name);
  if (!dtype || (dtype->dtype != DType::BF16 && dtype->dtype != DType::F32)) {
    return usage_error("--dtype: expected bf16 or f32, found '{}'", name);
  }
  return dtype->dtype;
}

// Which tensors the result has, and of which types.
struct ResultForm {
  DType dtype;
  bool state_only;  ///< the tuned state alone, in f32
};

Status write_result(const Subject& subject, const Trained& trained, const std::string& output,
                    const ResultForm& form, OutputFile::Existing existing) {
  RWKV_ASSIGN(const auto edited,
              EditedSource::create(subject.source(), fs::path(output).parent_path().string()));
  for (const Parameter& parameter : trained.network->parameters()) {
    RWKV_ASSIGN(const size_t index, edited->index_of(parameter.name));
    const at::Tensor values = parameter.values.detach().cpu().contiguous();
    RWKV_TRY(edited->put(parameter.name, edited->tensors()[index].shape,
                         {values.data_ptr<float>(), static_cast<size_t>(values.numel())}));
  }
  std::vector<TensorInfo> infos;
  std::vector<size_t> from;  // of each, its place in `edited`
  for (size_t i = 0; i < edited->tensors().size(); ++i) {
    TensorInfo info = edited->tensors()[i];
    const bool is_state = info.name.ends_with(".att.time_state");
    if (is_state || !form.state_only) {
      info.dtype = is_state ? DType::F32 : form.dtype;
      infos.push_back(std::move(info));
      from.push_back(i);
    }
  }
  return write_checkpoint(output, existing, infos, [&](size_t index, std::vector<std::byte>& out) {
    return read_as(*edited, from[index], infos[index].dtype, out);
  });
}

ModelNumbers numbers_of(const Identified& model) {
  const PlanSizes sizes = PlanSizes::of(plan_for(model));
  return {model.config, sizes.all, sizes.blocks};
}

// The training, and the result, for which the trained values become temporary data once.
Result<WorkEstimate> estimate_of(const TrainJob& job, DType dtype) {
  RWKV_ASSIGN(const Network::IsTrainable is_trainable,
              trainable_in(job.options.parameters, job.student.model.tensors));
  TrainSubject subject{numbers_of(job.student.model), 0, 0, {}};
  for (const TensorBinding& tensor : job.student.model.tensors) {
    subject.trainable +=
        is_trainable(tensor.name) ? tensor.packed_rows() * tensor.packed_cols() : 0;
  }
  if (job.teacher) {
    subject.teacher = numbers_of(job.teacher->model);
  }
  WorkEstimate estimate;
  estimate.program = resident_bytes();
  estimate.stages.push_back({"train", train_needs(job.options, subject)});
  Needs& needs = estimate.stages.back().needs;
  estimate.output = subject.student.all * traits(dtype).block_bytes;
  needs.disk += estimate.output + sizeof(float) * subject.trainable;
  return estimate;
}

}  // namespace

void declare_train(cxxopts::Options& options, std::vector<std::string>& positionals) {
  options.add_options()("input", "Checkpoint to start from; without it, the configuration's model",
                        cxxopts::value<std::string>(), "FILE")(
      "config", "Configuration (YAML)", cxxopts::value<std::string>(), "FILE")(
      "o,output", "Checkpoint to write: .pth, .safetensors or .st", cxxopts::value<std::string>(),
      "FILE")("data", "Text or token file to train on; may be repeated",
              cxxopts::value<std::vector<std::string>>(), "FILE")(
      "valid", "The same, for the validation loss", cxxopts::value<std::vector<std::string>>(),
      "FILE")("vocab", "Vocabulary file, or 'bytes'", cxxopts::value<std::string>(), "FILE")(
      "teacher", "Checkpoint whose predictions the model learns (train.distill)",
      cxxopts::value<std::string>(),
      "FILE")("resume", "Continue from the newest snapshot in the work folder")(
      "work", "Folder for snapshots, token files and the loss (default OUTPUT.work)",
      cxxopts::value<std::string>(),
      "FOLDER")("set", "Change one setting: train.key=value; may be repeated",
                cxxopts::value<std::vector<std::string>>(), "KEY=VALUE")(
      "dtype", "Type of the result", cxxopts::value<std::string>()->default_value("bf16"),
      "bf16|f32")("state-only", "Write the tuned state alone (train.parameters: [state])")(
      "t,threads",
      "Threads (default: when resuming as many as before, else all available processors)",
      cxxopts::value<std::string>(),
      "N")("allow-requantize", "Start from values that were rounded before")(
      "force", "Replace an existing output")("quiet", "Show no progress");
  declare_device_option(options, "a training computes");
  declare_input_options(options);
  declare_estimate_options(options);
  RunLog::declare(options);
  positionals = {"input"};
}

Status run_train(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string output, cli::required(arguments, "output"));
  RWKV_TRY(check_checkpoint_name(output));
  RWKV_ASSIGN(const DType dtype, dtype_from(arguments));
  RWKV_ASSIGN(const TrainConfig config, config_from(arguments));
  const ResultForm form = {dtype, arguments.count("state-only") > 0};
  if (form.state_only && !tunes_state(config)) {
    return usage_error(
        "--state-only needs a state that is tuned: --set 'train.parameters=[state]'");
  }
  std::vector<std::string> texts = config.train.data;
  texts.insert(texts.end(), config.train.valid.begin(), config.train.valid.end());
  RWKV_TRY(refuse_own_input(arguments, /*input_is_packed=*/false, texts));
  RWKV_ASSIGN(const int n_threads, train_threads_from(arguments, "threads"));
  RWKV_ASSIGN(const at::Device device, device_from(arguments));
  const auto existing =
      arguments.count("force") > 0 ? OutputFile::Existing::Replace : OutputFile::Existing::Refuse;
  RWKV_ASSIGN(const auto group, ProcessGroup::from_environment(config.train.batch));
  if (group->is_first()) {
    RWKV_TRY(OutputFile::check(output, existing));
  }
  RWKV_ASSIGN(Subject subject, subject_from(arguments, config));
  if (tunes_state(config)) {
    RWKV_TRY(add_state(subject, fs::path(output).parent_path().string()));
  }
  std::optional<Checkpoint> teacher;
  Identified teacher_model;
  if (arguments.count("teacher") > 0) {
    if (config.train.loss.head.distill == 0 && config.train.loss.block_match == 0) {
      return usage_error(
          "--teacher has no effect because train.distill and train.block_match are 0; try "
          "--set train.distill=1");
    }
    RWKV_ASSIGN(teacher, open_trainable(arguments, "teacher"));
    RWKV_ASSIGN(teacher_model, identify_checkpoint(*teacher->source));
  }
  const bool quiet = arguments.count("quiet") > 0 || !group->is_first();
  // One process writes the log.
  RWKV_ASSIGN(const auto log, group->is_first() ? RunLog::from(arguments, arguments.count("resume"))
                                                : RunLog::none());
  log->write("start", {{"command", "train"}, {"version", cli::kVersion}, {"output", output}});
  RunDisplay display(quiet, *log);
  TrainProgress progress([&](const std::string& line) { display.report(line); },
                         [&](const std::string& line) { display.warn(line); },
                         [&](const StepReport& step) {
                           display.progress("train", share_of(step));
                           return display.is_terminal();
                         });
  TrainJob job{config.train,
               config.seed,
               {subject.source(), subject.model},
               std::nullopt,
               std::nullopt,
               arguments.count("work") > 0 ? arguments["work"].as<std::string>() : output + ".work",
               arguments.count("resume") > 0,
               n_threads,
               progress.callbacks(),
               nullptr,
               device};
  if (teacher) {
    job.teacher.emplace(ModelRef{*teacher->source, teacher_model});
  }
  std::string note;
  const std::string vocab =
      arguments.count("vocab") > 0 ? arguments["vocab"].as<std::string>() : "";
  static const Checkpoint kNoCheckpoint;
  RWKV_ASSIGN(
      job.vocabulary,
      choose_vocabulary(
          vocab, arguments.count("input") > 0 ? arguments["input"].as<std::string>() : output,
          subject.checkpoint ? *subject.checkpoint : kNoCheckpoint, subject.model.config.n_vocab,
          note));
  if (!quiet) {
    cli::print(stderr, "{}: {}\nvocabulary: {}\n", subject.source().path(),
               describe(subject.model.config), note);
  }
  RWKV_ASSIGN(const WorkEstimate estimate, estimate_of(job, dtype));
  RWKV_ASSIGN(const auto machine, tell_estimate(arguments, estimate, output, quiet));
  display.expect(estimate, machine);
  auto result = train(job, *group);
  display.end_line();
  if (!result.ok() || !result.value().is_finished) {
    const Status status =
        result.ok() ? TrainProgress::interrupted(result.value(), job) : result.status();
    log->write("error", {{"message", status.message()}});
    return status;
  }
  const Trained& trained = result.value();
  if (!group->is_first()) {
    return {};
  }
  RWKV_TRY(write_result(subject, trained, output, form, existing));
  log->write("result", {{"output", output},
                        {"bytes", fs::file_size(output)},
                        {"steps", trained.step},
                        {"loss", trained.last.loss}});
  cli::print("{}: {}, {} steps, loss {:.4f}; log and plot in {}\n", output,
             describe(subject.model.config), trained.step, trained.last.loss, job.folder);
  return {};
}

}  // namespace rwkv::press
