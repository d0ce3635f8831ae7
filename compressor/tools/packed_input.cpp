#include "compressor/tools/packed_input.h"

#include <unistd.h>

#include <filesystem>

#include "compressor/pipeline/convert.h"
#include "formats/cli/progress.h"
#include "formats/cli/version.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

// A name of this process alone in the folder for temporary files: what is packed into the file has
// no lock, so that another process would take it for a leftover of its own name. OutputFile
// removes a file that is not committed, after errors and signals too.
Result<std::unique_ptr<OutputFile>> create_temporary() {
  std::error_code error;
  const fs::path folder = fs::temp_directory_path(error);
  if (error) {
    return failed("the folder for temporary files does not exist; set TMPDIR");
  }
  static unsigned count = 0;
  const std::string name = fmt::format("rwkv-press-{}-{}.gguf", ::getpid(), ++count);
  return OutputFile::create((folder / name).string(), OutputFile::Existing::Replace);
}

Status pack_lossless(const std::string& path, const std::string& vocab, const std::string& output,
                     const InputOptions& from) {
  RWKV_ASSIGN(const Preset* preset, find_preset("fp32"));
  RWKV_ASSIGN(const Recipe recipe, parse_recipe(preset->yaml, "preset fp32", {}));
  RWKV_ASSIGN(const PlannedInput input, plan_input(path, recipe, false, from));
  PackOptions options;
  options.output = output;
  options.existing = OutputFile::Existing::Replace;
  RWKV_ASSIGN(options.model_name, checkpoint_name(path));
  options.tool_version = cli::kVersion;
  std::string note;
  RWKV_ASSIGN(options.vocabulary,
              choose_vocabulary(vocab, path, input.checkpoint, input.plan.config.n_vocab, note));
  if (!options.vocabulary) {
    return usage_error("{}: has no vocabulary; name one with --vocab", path);
  }
  PipelineOptions pipeline;
  pipeline.scratch_folder = fs::path(output).parent_path().string();
  constexpr double kSteps = 1000;
  cli::Progress progress(fmt::format("packing {}", path), static_cast<uint64_t>(kSteps),
                         from.quiet);
  pipeline.progress = [&](const std::string&, double share) {
    progress.update(static_cast<uint64_t>(share * kSteps));
  };
  return convert_checkpoint(recipe, *input.checkpoint.source, input.model, pipeline, options)
      .status();
}

}  // namespace

Result<PackedInput> PackedInput::open(const std::string& path, const std::string& vocab,
                                      const InputOptions& from) {
  PackedInput input;
  input.name_ = path;
  input.packed_path_ = path;
  RWKV_ASSIGN(const Checkpoint checkpoint, open_checkpoint(path));
  if (checkpoint.is_packed) {
    return input;
  }
  RWKV_ASSIGN(input.temporary_, create_temporary());
  input.packed_path_ = input.temporary_->temporary_path();
  RWKV_TRY(pack_lossless(path, vocab, input.packed_path_, from));
  return input;
}

}  // namespace rwkv::press
