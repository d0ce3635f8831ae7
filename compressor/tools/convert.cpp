// rwkv-press convert: a checkpoint through a recipe into one packed file.
#include <filesystem>

#include "compressor/stages/pack.h"
#include "compressor/tools/commands.h"
#include "formats/cli/command.h"
#include "formats/cli/progress.h"
#include "formats/cli/version.h"

namespace rwkv::press {

namespace fs = std::filesystem;

void declare_convert(cxxopts::Options& options, std::vector<std::string>& positionals) {
  options.add_options()("input", "Checkpoint", cxxopts::value<std::string>())(
      "o,output", "Packed file to write", cxxopts::value<std::string>())(
      "vocab", "Vocabulary file, or 'bytes'", cxxopts::value<std::string>())(
      "name", "Name of the model in the file", cxxopts::value<std::string>())(
      "force", "Replace an existing output")("quiet", "No progress");
  declare_recipe_options(options);
  positionals = {"input"};
}

Status run_convert(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "input"));
  RWKV_ASSIGN(const std::string output, cli::required(arguments, "output"));
  RWKV_ASSIGN(const Recipe recipe, recipe_from(arguments));
  RWKV_ASSIGN(const PlannedInput input,
              plan_input(path, recipe, arguments.count("allow-requantize") > 0));
  const ModelConfig& config = input.plan.config;

  PackOptions options;
  options.output = output;
  options.existing =
      arguments.count("force") > 0 ? OutputFile::Existing::Replace : OutputFile::Existing::Refuse;
  options.model_name = arguments.count("name") > 0 ? arguments["name"].as<std::string>()
                                                   : fs::path(path).stem().string();
  options.tool_version = cli::kVersion;
  std::string note;
  const std::string vocab =
      arguments.count("vocab") > 0 ? arguments["vocab"].as<std::string>() : "";
  if (arguments.count("vocab") > 0 && vocab.empty()) {
    return usage_error("--vocab is empty; a file or 'bytes' is wanted");
  }
  RWKV_ASSIGN(options.vocabulary,
              choose_vocabulary(vocab, path, input.checkpoint, config.n_vocab, note));
  const bool quiet = arguments.count("quiet") > 0;
  if (!quiet) {
    fmt::print(stderr, "{}: {} ({})\nrecipe: {}\nvocabulary: {}\n", path, describe(config),
               input.checkpoint.source->format(), recipe.name, note);
  }
  {
    cli::Progress progress("packing", input.plan.fp16_bytes() / 2, quiet);
    options.progress = [&](uint64_t done) { progress.update(done); };
    RWKV_TRY(pack(*input.checkpoint.source, input.plan, recipe, options));
  }
  const uint64_t before = fs::file_size(path);
  const uint64_t after = fs::file_size(output);
  fmt::print(
      "{}: {} -> {} ({:.2f}x smaller; weights {:.2f}x smaller than fp16)\n", output,
      cli::human_bytes(before), cli::human_bytes(after),
      static_cast<double>(before) / static_cast<double>(after),
      static_cast<double>(input.plan.fp16_bytes()) / static_cast<double>(input.plan.total_bytes()));
  return {};
}

}  // namespace rwkv::press
