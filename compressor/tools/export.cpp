// rwkv-press export: any checkpoint, or a packed file, back out as .pth or .safetensors under
// BlinkDL's names; with --to, as a file of another program.
#include <algorithm>
#include <array>

#include "compressor/checkpoint/adapter.h"
#include "compressor/checkpoint/write.h"
#include "compressor/tools/commands.h"
#include "formats/base/printable.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "formats/cli/progress.h"

namespace rwkv::press {
namespace {

// Options of export_llama_cpp.cpp.
constexpr std::array kOnlyLlamaCpp = {
    "type",        "head-type", "embedding-type", "vocab",   "name",   "chat-template",
    "calibration", "stats",     "imatrix",        "samples", "length", "allow-requantize"};

// Neither format can hold blocks of 32, so their decoded values are written.
std::vector<TensorInfo> plain_infos(const TensorSource& source) {
  std::vector<TensorInfo> infos = source.tensors();
  for (TensorInfo& info : infos) {
    info.dtype = traits(info.dtype).block == 1 ? info.dtype : DType::F32;
  }
  return infos;
}

// What the tensors are, for the last line. Pairs that have no names in a checkpoint are refused.
Result<std::string> description_of(const TensorSource& source, bool quiet) {
  if (is_tuned_state(source)) {
    return std::string("a tuned state");
  }
  RWKV_ASSIGN(const Identified model, identify_checkpoint(source));
  if (model.config.low_rank == LowRankForm::Linear &&
      std::any_of(model.tensors.begin(), model.tensors.end(),
                  [](const TensorBinding& tensor) { return tensor.part == Part::Diagonal; })) {
    return usage_error(
        "{}: has linear pairs with a diagonal, for which checkpoints have no names (the diagonal "
        "of "
        "x059 belongs to another form); convert without low_rank.diagonal to export",
        source.path());
  }
  if (model.config.version != Version::V4 && !quiet &&
      model.config.group_norm_eps != ModelConfig().group_norm_eps) {
    cli::print(stderr,
               "note: {}: its group norm has an epsilon of {}, which the output does not hold; "
               "convert that with --group-norm-eps {}\n",
               source.path(), model.config.group_norm_eps, model.config.group_norm_eps);
  }
  return describe(model.config);
}

}  // namespace

void declare_export(cxxopts::Options& options, std::vector<std::string>& positionals) {
  options.add_options()("input", "Checkpoint or packed file", cxxopts::value<std::string>(),
                        "FILE")("o,output", "File to write: .pth, .safetensors or .st",
                                cxxopts::value<std::string>(), "FILE")(
      "force", "Replace an existing output")("quiet", "No progress");
  declare_merge_options(options);
  declare_export_to_llama_cpp(options);
  positionals = {"input"};
}

Status run_export(const cxxopts::ParseResult& arguments) {
  if (arguments.count("to") > 0) {
    return run_export_to_llama_cpp(arguments);
  }
  for (const char* option : kOnlyLlamaCpp) {
    if (arguments.count(option) > 0) {
      return usage_error("--{} belongs to --to llama.cpp; remove it, or add that", option);
    }
  }
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "input"));
  RWKV_ASSIGN(const std::string output, cli::required(arguments, "output"));
  RWKV_TRY(check_checkpoint_name(output));
  const bool quiet = arguments.count("quiet") > 0;
  const auto existing =
      arguments.count("force") > 0 ? OutputFile::Existing::Replace : OutputFile::Existing::Refuse;
  RWKV_TRY(OutputFile::check(output, existing));
  RWKV_ASSIGN(Checkpoint checkpoint, open_input(path, quiet));
  RWKV_ASSIGN(const MergeRequest merge, merge_from(arguments));
  RWKV_TRY(refuse_own_input(arguments));
  RWKV_ASSIGN(const std::vector<std::string> notes,
              merge_into(checkpoint, merge, /*allow_requantize=*/true));
  const TensorSource& source = *checkpoint.source;
  RWKV_ASSIGN(const std::string what, description_of(source, quiet));
  for (const std::string& line : notes) {
    cli::print(stderr, "{}\n", printable(line));
  }
  const std::vector<TensorInfo> infos = plain_infos(source);
  cli::Progress progress("writing", infos.size(), arguments.count("quiet") > 0);
  const auto read = [&](size_t index, std::vector<std::byte>& out) {
    progress.update(index);
    return read_as(source, index, infos[index].dtype, out);
  };
  RWKV_TRY(write_checkpoint(output, existing, infos, read));
  cli::print("{}: {} tensors of {}\n", output, infos.size(), what);
  return {};
}

}  // namespace rwkv::press
