// rwkv-press calibrate: collects activation statistics from text, for later conversions, and
// llama.cpp's imatrix.
#include <array>

#include "compressor/calibrate/imatrix.h"
#include "compressor/calibrate/statistics.h"
#include "compressor/recipe/recipe.h"
#include "compressor/tools/commands.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "formats/cli/progress.h"

namespace rwkv::press {

namespace {

// What is written; empty: not.
struct Outputs {
  std::string statistics;
  std::string imatrix;
  OutputFile::Existing existing = OutputFile::Existing::Refuse;
  MomentsOf of = MomentsOf::AllButNeurons;
  at::Device device = at::kCPU;
};

Result<Outputs> outputs_from(const cxxopts::ParseResult& arguments) {
  Outputs outputs;
  if (arguments.count("imatrix") > 0) {
    RWKV_ASSIGN(outputs.imatrix, cli::required(arguments, "imatrix"));
  }
  if (arguments.count("output") > 0 || outputs.imatrix.empty()) {
    RWKV_ASSIGN(outputs.statistics, cli::required(arguments, "output"));
  }
  if (outputs.imatrix == outputs.statistics) {
    return usage_error("--imatrix and --output name the same file, '{}'; choose another name",
                       outputs.imatrix);
  }
  RWKV_TRY(refuse_own_input(arguments));
  constexpr std::array kRead = {"input", "vocab", "calibration"};
  RWKV_TRY(cli::refuse_own_input(arguments, outputs.imatrix, kRead));
  RWKV_ASSIGN(outputs.device, device_from(arguments));
  if (arguments.count("all-moments") > 0) {
    outputs.of = MomentsOf::All;
  }
  if (arguments.count("force") > 0) {
    outputs.existing = OutputFile::Existing::Replace;
  }
  for (const std::string& output : {outputs.statistics, outputs.imatrix}) {
    if (!output.empty()) {
      RWKV_TRY(OutputFile::check(output, outputs.existing));
    }
  }
  return outputs;
}

// Each with a pass of its own over the model.
Status write_outputs(const Outputs& outputs, const Checkpoint& checkpoint,
                     const ModelConfig& config, const Calibration& calibration,
                     const std::string& text, bool quiet) {
  constexpr double kSteps = 1000;
  if (!outputs.imatrix.empty()) {
    cli::Progress progress("imatrix", static_cast<uint64_t>(kSteps), quiet);
    RWKV_TRY(write_imatrix_of(
        *checkpoint.source, config, calibration, text, outputs.imatrix, outputs.existing,
        [&](double share) { progress.update(static_cast<uint64_t>(share * kSteps)); },
        outputs.device));
  }
  if (outputs.statistics.empty()) {
    return {};
  }
  cli::Progress progress("calibrating", static_cast<uint64_t>(kSteps), quiet);
  return write_statistics(
      *checkpoint.source, config, calibration, outputs.statistics, outputs.existing,
      [&](double share) { progress.update(static_cast<uint64_t>(share * kSteps)); }, outputs.of,
      outputs.device);
}

}  // namespace

void declare_calibrate(cxxopts::Options& options, std::vector<std::string>& positionals) {
  options.add_options()("input", "Checkpoint", cxxopts::value<std::string>(), "FILE")(
      "o,output", "Statistics file to write (.safetensors)", cxxopts::value<std::string>(), "FILE")(
      "imatrix",
      "llama.cpp's imatrix to write, besides statistics or instead of them (.gguf, .dat)",
      cxxopts::value<std::string>(),
      "FILE")("calibration", "Text file to learn from; may be repeated",
              cxxopts::value<std::vector<std::string>>(), "FILE")(
      "samples", "Number of sequences", cxxopts::value<std::string>()->default_value("64"), "N")(
      "length", "Tokens per sequence", cxxopts::value<std::string>()->default_value("256"), "N")(
      "seed", "Decides which stretches of the text are sampled",
      cxxopts::value<std::string>()->default_value("0"),
      "N")("vocab", "Vocabulary file, or 'bytes'", cxxopts::value<std::string>(), "FILE")(
      "all-moments", "Also what quantizers learn from without text: ffn.value and the head")(
      "force", "Replace an existing output")("quiet", "Show no progress");
  declare_device_option(options, "the passes of the text compute");
  declare_input_options(options);
  positionals = {"input"};
}

Status run_calibrate(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "input"));
  RWKV_ASSIGN(const Outputs outputs, outputs_from(arguments));
  const bool quiet = arguments.count("quiet") > 0;
  CalibrationOptions options;
  RWKV_ASSIGN(const int64_t samples, cli::integer(arguments, "samples", 1, 1 << 24));
  RWKV_ASSIGN(const int64_t length, cli::integer(arguments, "length", 2, 1 << 16));
  RWKV_ASSIGN(const int64_t seed, cli::integer(arguments, "seed", 0, INT64_MAX));
  options.samples = static_cast<uint64_t>(samples);
  options.length = static_cast<uint64_t>(length);
  options.seed = static_cast<uint64_t>(seed);
  if (arguments.count("calibration") > 0) {
    options.texts = arguments["calibration"].as<std::vector<std::string>>();
    warn_about_binary(options.texts);
  }
  RWKV_ASSIGN(const InputOptions from, input_options_from(arguments));
  RWKV_ASSIGN(const Checkpoint checkpoint, open_input(path, from.quiet));
  RWKV_ASSIGN(const Identified model, identify_input(checkpoint, from));
  std::string note;
  RWKV_ASSIGN(
      const std::optional<Vocabulary> vocabulary,
      choose_vocabulary(arguments.count("vocab") > 0 ? arguments["vocab"].as<std::string>() : "",
                        path, checkpoint, model.config.n_vocab, note));
  RWKV_ASSIGN(const Calibration calibration, sample_texts(options, vocabulary, model.config));
  if (!quiet) {
    cli::print(stderr, "{}: {}\nvocabulary: {}\n", path, describe(model.config), note);
  }
  return write_outputs(outputs, checkpoint, model.config, calibration, options.texts.front(),
                       quiet);
}

}  // namespace rwkv::press
