// --merge and --alpha: adapters merged into a checkpoint as it is opened.
#include "compressor/checkpoint/adapter.h"
#include "compressor/checkpoint/merged_source.h"
#include "compressor/tools/commands.h"
#include "formats/cli/command.h"

namespace rwkv::press {
namespace {

constexpr double kMaxAlpha = 1e6;

}  // namespace

void declare_merge_options(cxxopts::Options& options) {
  options.add_options()("merge",
                        "Adapter (LoRA, PiSSA, DiSHA, Bone; a file, or PEFT's folder) or tuned "
                        "state to merge into the "
                        "input; may be repeated, in this order",
                        cxxopts::value<std::vector<std::string>>(), "FILE")(
      "alpha",
      "lora_alpha of the training, if no adapter_config.json says it: a LoRA is scaled by alpha / "
      "rank",
      cxxopts::value<std::string>(), "N");
}

Result<MergeRequest> merge_from(const cxxopts::ParseResult& arguments) {
  MergeRequest request;
  if (arguments.count("merge") > 0) {
    request.files = arguments["merge"].as<std::vector<std::string>>();
  }
  if (arguments.count("alpha") > 0) {
    RWKV_ASSIGN(request.alpha, cli::real(arguments, "alpha", -kMaxAlpha, kMaxAlpha));
  }
  return request;
}

Result<std::vector<std::string>> merge_into(Checkpoint& checkpoint, const MergeRequest& request,
                                            bool allow_requantize) {
  const std::string path = checkpoint.source->path();
  const bool has_parts = !adapter_kind(*checkpoint.source).empty();
  if (request.files.empty() && !request.alpha && !has_parts) {
    return std::vector<std::string>();
  }
  if (checkpoint.is_quantized && !allow_requantize) {
    return usage_error(
        "{}: holds rounded values; merge into the original checkpoint, or accept the second loss "
        "with --allow-requantize",
        path);
  }
  std::vector<OpenedAdapter> adapters;
  for (const std::string& file : request.files) {
    RWKV_ASSIGN(OpenedAdapter adapter, open_adapter(file));
    adapters.push_back(std::move(adapter));
  }
  RWKV_ASSIGN(Merged merged, merge_adapters(std::move(checkpoint.source), std::move(adapters),
                                            {.alpha = request.alpha}));
  checkpoint.source = std::move(merged.source);
  return std::move(merged.notes);
}

}  // namespace rwkv::press
