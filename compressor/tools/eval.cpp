// rwkv-press eval: measures the quality of models on the runtime that devices use.
#include <ATen/Parallel.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "compressor/evaluate/measurement_json.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/tools/commands.h"
#include "compressor/tools/eval_print.h"
#include "compressor/tools/packed_input.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "formats/cli/progress.h"

namespace rwkv::press {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxThreads = 256;

std::vector<std::string> files_of(const cxxopts::ParseResult& arguments, const char* option) {
  return arguments.count(option) > 0 ? arguments[option].as<std::vector<std::string>>()
                                     : std::vector<std::string>();
}

Result<EvaluationFiles> files_from(const cxxopts::ParseResult& arguments) {
  EvaluationFiles files;
  files.texts = files_of(arguments, "text");
  files.clozes = files_of(arguments, "cloze");
  files.choices = files_of(arguments, "choices");
  RWKV_ASSIGN(const int64_t max_docs, cli::integer(arguments, "max-docs", 0, INT64_MAX));
  RWKV_ASSIGN(const int64_t seed, cli::integer(arguments, "seed", 0, INT64_MAX));
  files.max_docs = static_cast<uint64_t>(max_docs);
  files.seed = static_cast<uint64_t>(seed);
  return files;
}

Result<MeasureOptions> options_from(const cxxopts::ParseResult& arguments) {
  MeasureOptions options;
  int64_t n_threads = std::clamp<int64_t>(at::get_num_threads(), 1, kMaxThreads);
  if (arguments.count("threads") > 0) {
    RWKV_ASSIGN(n_threads, cli::integer(arguments, "threads", 1, kMaxThreads));
  }
  options.n_threads = static_cast<unsigned>(n_threads);
  if (arguments.count("max-tokens") > 0) {
    RWKV_ASSIGN(const int64_t n, cli::integer(arguments, "max-tokens", 2, INT64_MAX));
    options.max_tokens = static_cast<uint64_t>(n);
  }
  if (arguments.count("prefix-token") > 0) {
    RWKV_ASSIGN(const int64_t id, cli::integer(arguments, "prefix-token", 0, INT32_MAX));
    options.prefix = {static_cast<int32_t>(id)};
  }
  RWKV_ASSIGN(options.weight_bytes, cli::byte_size(arguments, "weight-bytes", 0));
  if (arguments.count("most-bits") > 0) {
    RWKV_ASSIGN(options.most_bits, cli::real(arguments, "most-bits", 1, 32));
  }
  if (arguments.count("reference") > 0 && arguments.count("text") == 0) {
    return usage_error("--reference needs a text to compare on; name one with --text");
  }
  return options;
}

// Checks all models before the first one is evaluated.
Status check_models(const std::vector<std::string>& paths, bool has_vocab, bool has_eps) {
  bool any_checkpoint = false;
  for (const std::string& path : paths) {
    RWKV_ASSIGN(const Checkpoint checkpoint, open_checkpoint(path));
    any_checkpoint = any_checkpoint || !checkpoint.is_packed;
  }
  if (has_vocab && !any_checkpoint) {
    return usage_error("--vocab is for checkpoints; packed files contain their vocabulary");
  }
  if (has_eps && !any_checkpoint) {
    return usage_error(
        "--group-norm-eps is for checkpoints; packed files contain theirs, given to convert");
  }
  return {};
}

std::string file_name(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

// A progress bar for each file.
Result<Measurement> measure_with_progress(const PackedInput& model, const EvaluationSets& sets,
                                          MeasureOptions options, bool quiet) {
  cli::Bars bars(quiet);
  options.name = model.name();
  options.progress = [&](const std::string& what, double share) {
    bars.update(fmt::format("{} on {}", file_name(model.name()), file_name(what)), share);
  };
  return measure(model.packed_path(), sets, options);
}

}  // namespace

void declare_eval(cxxopts::Options& options, std::vector<std::string>& positionals) {
  using Files = std::vector<std::string>;
  options.add_options()("models", "Packed files or checkpoints", cxxopts::value<Files>(), "FILE")(
      "text", "Text to score (perplexity, bits per byte); may be repeated", cxxopts::value<Files>(),
      "FILE")("cloze", "Texts whose last word the model must predict (.jsonl); may be repeated",
              cxxopts::value<Files>(),
              "FILE")("choices", "Multiple-choice questions (.jsonl, .jsonl.gz); may be repeated",
                      cxxopts::value<Files>(),
                      "FILE")("reference", "Model to compare with on the texts: KL, top-1, top-5",
                              cxxopts::value<std::string>(),
                              "FILE")("max-tokens", "Score only the first N tokens of each text",
                                      cxxopts::value<std::string>(), "N")(
      "prefix-token",
      "Token id in front of every text and context; 0 for figures as RWKV's authors publish them",
      cxxopts::value<std::string>(),
      "ID")("max-docs", "Use only N documents of each file of questions, drawn at random; 0: all",
            cxxopts::value<std::string>()->default_value("0"),
            "N")("seed", "Decides which documents are drawn",
                 cxxopts::value<std::string>()->default_value("0"), "N")(
      "weight-bytes",
      "Models with narrower copies: the widths that a device chooses for so many bytes of weights",
      cxxopts::value<std::string>(), "SIZE")(
      "most-bits", "Models with narrower copies: the widest copies of at most N bits",
      cxxopts::value<std::string>(), "N")("vocab", "Vocabulary file for checkpoints, or 'bytes'",
                                          cxxopts::value<std::string>(), "FILE")(
      "t,threads", "Threads (default: all available processors)", cxxopts::value<std::string>(),
      "N")("json", "Print JSON")("quiet", "Show no progress");
  declare_input_options(options);
  positionals = {"models"};
}

Status run_eval(const cxxopts::ParseResult& arguments) {
  const bool quiet = arguments.count("quiet") > 0;
  const std::vector<std::string> models = files_of(arguments, "models");
  if (models.empty()) {
    return usage_error("'models' is missing; see --help");
  }
  RWKV_ASSIGN(const EvaluationFiles files, files_from(arguments));
  RWKV_ASSIGN(MeasureOptions options, options_from(arguments));
  std::string vocab;
  if (arguments.count("vocab") > 0) {
    RWKV_ASSIGN(vocab, cli::required(arguments, "vocab"));
  }
  RWKV_ASSIGN(const InputOptions from, input_options_from(arguments));
  std::vector<std::string> opened = models;
  PackedInput reference;
  if (arguments.count("reference") > 0) {
    opened.push_back(arguments["reference"].as<std::string>());
  }
  RWKV_TRY(check_models(opened, !vocab.empty(), from.group_norm_eps.has_value()));
  RWKV_ASSIGN(const EvaluationSets sets, load_evaluation_sets(files));
  if (arguments.count("reference") > 0) {
    RWKV_ASSIGN(reference, PackedInput::open(opened.back(), vocab, from));
    options.reference = reference.packed_path();
    options.reference_name = reference.name();
  }
  std::vector<Measurement> measurements;
  for (const std::string& path : models) {
    RWKV_ASSIGN(const PackedInput model, PackedInput::open(path, vocab, from));
    RWKV_ASSIGN(Measurement measurement, measure_with_progress(model, sets, options, quiet));
    measurements.push_back(std::move(measurement));
  }
  if (arguments.count("json") > 0) {
    Json reports = Json::array();
    for (const Measurement& measurement : measurements) {
      reports.push_back(measurement_to_json(measurement));
    }
    cli::print_json(reports.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    print_measurements(measurements);
  }
  print_skipped(sets);
  return {};
}

}  // namespace rwkv::press
