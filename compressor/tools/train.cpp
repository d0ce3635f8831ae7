// rwkv-press train: trains a checkpoint or a new model.
#include <filesystem>

#include "compressor/checkpoint/edited_source.h"
#include "compressor/checkpoint/write.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/tools/commands.h"
#include "compressor/train/config.h"
#include "compressor/train/initial_values.h"
#include "compressor/train/progress.h"
#include "formats/base/printable.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;

// The model to train: an opened checkpoint, or a new one.
struct Subject {
  std::optional<Checkpoint> checkpoint;
  std::unique_ptr<MemorySource> made;
  Identified model;
  const TensorSource& source() const { return checkpoint ? *checkpoint->source : *made; }
};

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

Status write_result(const Subject& subject, const Trained& trained, const std::string& output,
                    DType dtype, OutputFile::Existing existing) {
  RWKV_ASSIGN(const auto edited,
              EditedSource::create(subject.source(), fs::path(output).parent_path().string()));
  for (const Parameter& parameter : trained.network->parameters()) {
    RWKV_ASSIGN(const size_t index, edited->index_of(parameter.name));
    const at::Tensor values = parameter.values.detach().contiguous();
    RWKV_TRY(edited->put(parameter.name, edited->tensors()[index].shape,
                         {values.data_ptr<float>(), static_cast<size_t>(values.numel())}));
  }
  std::vector<TensorInfo> infos = edited->tensors();
  for (TensorInfo& info : infos) {
    info.dtype = dtype;
  }
  return write_checkpoint(output, existing, infos, [&](size_t index, std::vector<std::byte>& out) {
    return read_as(*edited, index, dtype, out);
  });
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
                cxxopts::value<std::vector<std::string>>(),
                "KEY=VALUE")("dtype", "Type of the result",
                             cxxopts::value<std::string>()->default_value("bf16"), "bf16|f32")(
      "t,threads",
      "Threads (default: when resuming as many as before, else all available processors)",
      cxxopts::value<std::string>(),
      "N")("allow-requantize", "Start from values that were rounded before")(
      "force", "Replace an existing output")("quiet", "Show no progress");
  declare_input_options(options);
  positionals = {"input"};
}

Status run_train(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string output, cli::required(arguments, "output"));
  RWKV_TRY(check_checkpoint_name(output));
  RWKV_ASSIGN(const DType dtype, dtype_from(arguments));
  RWKV_ASSIGN(const TrainConfig config, config_from(arguments));
  std::vector<std::string> texts = config.train.data;
  texts.insert(texts.end(), config.train.valid.begin(), config.train.valid.end());
  RWKV_TRY(refuse_own_input(arguments, /*input_is_packed=*/false, texts));
  RWKV_ASSIGN(const int n_threads, train_threads_from(arguments, "threads"));
  const auto existing =
      arguments.count("force") > 0 ? OutputFile::Existing::Replace : OutputFile::Existing::Refuse;
  RWKV_ASSIGN(const auto group, ProcessGroup::from_environment(config.train.batch));
  if (group->is_first()) {
    RWKV_TRY(OutputFile::check(output, existing));
  }
  RWKV_ASSIGN(const Subject subject, subject_from(arguments, config));
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
  const auto show = [quiet](const std::string& line) {
    if (!quiet) {
      cli::print(stderr, "{}\n", printable(line, line.size()));
    }
  };
  TrainProgress progress(show, [](const std::string& line) {
    cli::print(stderr, "rwkv-press: warning: {}\n", printable(line, line.size()));
  });
  TrainJob job{config.train,
               config.seed,
               {subject.source(), subject.model},
               std::nullopt,
               std::nullopt,
               arguments.count("work") > 0 ? arguments["work"].as<std::string>() : output + ".work",
               arguments.count("resume") > 0,
               n_threads,
               progress.callbacks()};
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
  RWKV_ASSIGN(const Trained trained, train(job, *group));
  if (!trained.is_finished) {
    return TrainProgress::interrupted(trained, job);
  }
  if (!group->is_first()) {
    return {};
  }
  RWKV_TRY(write_result(subject, trained, output, dtype, existing));
  cli::print("{}: {}, {} steps, loss {:.4f}; log and plot in {}\n", output,
             describe(subject.model.config), trained.step, trained.last.loss, job.folder);
  return {};
}

}  // namespace rwkv::press
