// rwkv-edge inspect.
#include "formats/cli/inspection.h"

#include "formats/arch/finite.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "runtime/model/device_needs.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {
namespace {

// Checksums, which find damage, and values that are none, which were packed by older programs.
Status verify(const PackedFile& file, std::span<const std::byte> bytes) {
  for (const PackedTensor& tensor : file.tensors) {
    RWKV_TRY(verify_tensor(tensor, bytes.subspan(tensor.offset, tensor.n_bytes)));
  }
  for (const TensorBinding& binding : file.bindings) {
    const PackedTensor& tensor = file.tensors[binding.source];
    const auto codes = bytes.subspan(tensor.offset, tensor.n_bytes);
    if (binding.role != Role::Ignored) {
      RWKV_TRY(check_values(tensor.name,
                            MatrixView::of(codes.data(), tensor.codec, tensor.rows, tensor.cols)));
    }
  }
  return {};
}

}  // namespace

void declare_inspect(cxxopts::Options& options, std::vector<std::string>& positionals) {
  options.add_options()("m,model", "Packed model", cxxopts::value<std::string>(), "FILE")(
      "tensors", "List the tensors")("metadata", "List the metadata")("json", "Print JSON")(
      "verify", "Check every tensor: its checksum, and that all values are finite");
  positionals = {"model"};
}

Status run_inspect(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "model"));
  RWKV_ASSIGN(const auto mapping, MappedFile::open(path));
  RWKV_ASSIGN(const GgufFile file, GgufFile::parse(mapping->bytes(), path));
  const auto opened = PackedFile::open(path);
  if (!opened.ok()) {
    // Another program's GGUF, or a damaged file: what is in it, and then why it is refused.
    const auto report = cli::report_gguf(file, opened.status().message());
    if (arguments.count("json") > 0) {
      cli::print_json(cli::report_to_json(report));
    } else {
      cli::print("{}", cli::report_to_text(report, {}));
    }
    return opened.status();
  }
  const PackedFile& packed = opened.value();
  RWKV_ASSIGN(nlohmann::ordered_json report, cli::report_packed(file));
  RWKV_ASSIGN(const std::vector<ModeNeeds> needs, device_needs(path));
  for (const ModeNeeds& mode : needs) {
    report["device"].push_back({{"mode", mode_traits(mode.mode).name},
                                {"resident", mode.resident},
                                {"read_per_token", mode.read.bytes},
                                {"is_bound", mode.read.is_bound},
                                {"made_for", mode.is_made_for}});
  }
  if (arguments.count("verify") > 0) {
    RWKV_TRY(verify(packed, mapping->bytes()).in(path));
    report["verified"] = true;
  }
  if (arguments.count("json") > 0) {
    cli::print_json(cli::report_to_json(report));
  } else {
    cli::print("{}device, by memory mode (and a few MB for the program)\n{}",
               cli::report_to_text(report, cli::details_from(arguments)), describe(needs, "  "));
  }
  return {};
}

}  // namespace rwkv::edge
