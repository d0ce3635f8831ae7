// rwkv-press synth: a checkpoint of any version and size with random weights.
#include <filesystem>

#include "compressor/checkpoint/synth.h"
#include "compressor/tools/commands.h"
#include "formats/arch/versions.h"
#include "formats/base/nearest.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "formats/cli/progress.h"

namespace rwkv::press {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 20;

Result<SynthOptions> options_from(const cxxopts::ParseResult& arguments) {
  SynthOptions options;
  RWKV_ASSIGN(options.model.arch, cli::required(arguments, "arch"));
  options.dtype = arguments["dtype"].as<std::string>();
  struct Size {
    const char* name;
    uint64_t& to;
    bool is_required;
  };
  const Size sizes[] = {{"n-layer", options.model.n_layer, true},
                        {"n-embd", options.model.n_embd, true},
                        {"n-vocab", options.model.n_vocab, true},
                        {"dim-ffn", options.model.dim_ffn, false},
                        {"head-size", options.model.head_size, false},
                        {"rank", options.model.rank, false},
                        {"seed", options.seed, false}};
  for (const Size& size : sizes) {
    if (arguments.count(size.name) > 0) {
      RWKV_ASSIGN(const int64_t value, cli::integer(arguments, size.name, 0, kMaxSize));
      size.to = static_cast<uint64_t>(value);
    } else if (size.is_required) {
      return usage_error("'{}' is missing; see --help", size.name);
    }
  }
  return options;
}

}  // namespace

void declare_synth(cxxopts::Options& options, std::vector<std::string>& positionals) {
  options.add_options()("arch", "Version: v4, v5.0, v5.1, v5.2, v6, v7, x058 or x059",
                        cxxopts::value<std::string>(), "VERSION")(
      "n-layer", "Number of blocks", cxxopts::value<std::string>(), "N")(
      "n-embd", "Number of channels", cxxopts::value<std::string>(), "N")(
      "n-vocab", "Size of the vocabulary", cxxopts::value<std::string>(), "N")(
      "dim-ffn", "Neurons per channel_mix (default: as in published models of the version)",
      cxxopts::value<std::string>(),
      "N")("head-size", "Channels per head (default 64)", cxxopts::value<std::string>(), "N")(
      "rank", "x058, x059: inner size of factor pairs (default n-embd / 8)",
      cxxopts::value<std::string>(),
      "N")("dtype", "Type of the tensors", cxxopts::value<std::string>()->default_value("bf16"),
           "bf16|f16|f32")("seed", "Random seed; the same seed gives the same bytes (default 0)",
                           cxxopts::value<std::string>(), "N")(
      "o,output", "File to write: .pth, .safetensors or .st", cxxopts::value<std::string>(),
      "FILE")("force", "Replace an existing output")("quiet", "Show no progress");
  positionals = {};
}

Status run_synth(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string output, cli::required(arguments, "output"));
  RWKV_ASSIGN(SynthOptions options, options_from(arguments));
  options.output = output;
  options.existing =
      arguments.count("force") > 0 ? OutputFile::Existing::Replace : OutputFile::Existing::Refuse;
  cli::Progress progress("writing", 1000, arguments.count("quiet") > 0);
  options.progress = [&](double share) { progress.update(static_cast<uint64_t>(share * 1000)); };
  RWKV_ASSIGN(const ModelConfig config, write_synthetic(options));
  cli::print("{}: {}\n", output, describe(config));
  return {};
}

}  // namespace rwkv::press
