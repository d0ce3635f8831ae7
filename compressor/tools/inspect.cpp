// rwkv-press inspect: shows the contents of a file in any format that we read.
#include "compressor/evaluate/device.h"
#include "compressor/tools/commands.h"
#include "formats/arch/finite.h"
#include "formats/cli/command.h"
#include "formats/cli/inspection.h"
#include "formats/cli/print.h"
#include "formats/cli/progress.h"
#include "formats/container/shard_index.h"

namespace rwkv::press {
namespace {

// Reads every tensor, which performs all checks of its format: checksums of packed files, CRCs of
// zip records, ranges of all. What the model uses must hold finite numbers.
Status verify(const TensorSource& source, const Identified& model) {
  std::vector<bool> is_used(source.tensors().size());
  for (const TensorBinding& binding : model.tensors) {
    is_used[binding.source] = binding.role != Role::Ignored;
  }
  std::vector<std::byte> bytes;
  std::vector<float> values;
  cli::Progress progress("verifying", source.tensors().size(), false);
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    const TensorInfo& info = source.tensors()[i];
    RWKV_TRY(source.read(i, bytes));
    if (is_used[i]) {
      values.resize(info.n_elements());
      decode_to_f32(info.dtype, bytes, values);
      const uint64_t cols = info.shape.empty() ? 1 : info.shape.back();
      RWKV_TRY(check_values(info.name, values, cols).in(source.path()));
    }
    progress.update(i + 1);
  }
  return {};
}

// The narrower copies of a packed file, which are no part of the checkpoint.
Status verify_copies(const std::string& path) {
  RWKV_ASSIGN(const auto mapping, MappedFile::open(path));
  RWKV_ASSIGN(const GgufFile file, GgufFile::parse(mapping->bytes(), path));
  RWKV_ASSIGN(const std::vector<PackedTensor> tensors, packed_tensors(file));
  for (size_t i = n_complete_tensors(tensors); i < tensors.size(); ++i) {
    const auto bytes = mapping->bytes().subspan(tensors[i].offset, tensors[i].n_bytes);
    RWKV_TRY(verify_tensor(tensors[i], bytes).in(path));
    const uint64_t shared = codec_traits(tensors[i].codec).shared_bytes(tensors[i].cols);
    RWKV_TRY(check_shared_part(tensors[i], bytes.first(shared)).in(path));
  }
  return {};
}

// Of a file whose model is unknown: what is in it. `not_identified` says why.
Result<nlohmann::ordered_json> make_report(const std::string& path, const Checkpoint& checkpoint,
                                           Status& not_identified) {
  if (checkpoint.is_packed) {
    RWKV_ASSIGN(const auto mapping, MappedFile::open(path));
    RWKV_ASSIGN(const GgufFile file, GgufFile::parse(mapping->bytes(), path));
    return cli::report_packed(file);
  }
  const auto model = identify_checkpoint(*checkpoint.source);
  if (!model.ok()) {
    not_identified = model.status();
    return cli::report_unknown(*checkpoint.source, not_identified.message());
  }
  return cli::report_source(*checkpoint.source, model.value().config);
}

}  // namespace

void declare_inspect(cxxopts::Options& options, std::vector<std::string>& positionals) {
  options.add_options()("input", "Checkpoint or packed file", cxxopts::value<std::string>(),
                        "FILE")("tensors", "List the tensors")("metadata", "List the metadata")(
      "json", "Print JSON")("verify", "Read everything: checksums, and that all values are finite");
  positionals = {"input"};
}

Status run_inspect(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "input"));
  RWKV_ASSIGN(const Checkpoint checkpoint, open_input(path, false));
  Status not_identified;
  RWKV_ASSIGN(nlohmann::ordered_json report, make_report(path, checkpoint, not_identified));
  std::string device;
  if (checkpoint.is_packed) {
    RWKV_ASSIGN(const DeviceReport needs, device_report(path));
    report["device"] = needs.json;
    device = fmt::format("{}\n{}", kDeviceHeading, needs.text);
  }
  if (arguments.count("verify") > 0) {
    RWKV_ASSIGN(const Identified model, identify_checkpoint(*checkpoint.source));
    RWKV_TRY(verify(*checkpoint.source, model));
    RWKV_TRY(checkpoint.is_packed ? verify_copies(path) : Status());
    report["verified"] = true;
  }
  if (arguments.count("json") > 0) {
    cli::print_json(cli::report_to_json(report));
  } else {
    cli::print("{}{}", cli::report_to_text(report, cli::details_from(arguments)), device);
  }
  return not_identified;
}

}  // namespace rwkv::press
