#include "formats/cli/inspection.h"

#include <algorithm>
#include <map>

#include "formats/arch/versions.h"
#include "formats/base/printable.h"
#include "formats/cli/command.h"
#include "formats/container/gguf_writer.h"
#include "formats/container/packed_keys.h"
#include "formats/container/shard_index.h"

namespace rwkv::cli {
namespace {

using Json = nlohmann::ordered_json;

Json value_to_json(const GgufValue& value) {
  return std::visit(
      []<typename T>(const T& v) -> Json {
        if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
          return v;
        } else {
          return fmt::format("[{} values]", v.size());
        }
      },
      value.value);
}

uint64_t count_numbers(const Json& tensors) {
  uint64_t n = 0;
  for (const Json& tensor : tensors) {
    n += tensor["numbers"].get<uint64_t>();
  }
  return n;
}

void add_totals(Json& report) {
  uint64_t bytes = 0;
  for (const Json& tensor : report["tensors"]) {
    bytes += tensor["bytes"].get<uint64_t>();
  }
  report["n_parameters"] = count_numbers(report["tensors"]);
  report["tensor_bytes"] = bytes;
}

// Exact, with scales, tables and filling: of the tensors in lossy codecs, and of all.
void add_bits(Json& report) {
  uint64_t bytes = 0;
  uint64_t numbers = 0;
  for (const Json& tensor : report["tensors"]) {
    const CodecTraits* codec = find_codec(tensor["type"].get<std::string>());
    if (codec && codec->is_lossy) {
      bytes += tensor["bytes"].get<uint64_t>();
      numbers += tensor["numbers"].get<uint64_t>();
    }
  }
  const auto bits = [](uint64_t n_bytes, uint64_t n) {
    return 8 * static_cast<double>(n_bytes) / static_cast<double>(n);
  };
  Json per_weight = {
      {"all", bits(report["tensor_bytes"].get<uint64_t>(), count_numbers(report["tensors"]))}};
  if (numbers > 0) {
    per_weight["quantised"] = bits(bytes, numbers);
  }
  report["bits_per_weight"] = std::move(per_weight);
}

// A line of them; nothing if nothing is quantised.
std::string bits_of(const Json& report) {
  if (!report.contains("bits_per_weight") || !report["bits_per_weight"].contains("quantised")) {
    return "";
  }
  const Json& bits = report["bits_per_weight"];
  return fmt::format("bits        {:.4f} per quantised weight, {:.4f} over all\n",
                     bits["quantised"].get<double>(), bits["all"].get<double>());
}

// A line of the widths that pieces of matrices have besides their full one, with the share of the
// pieces that have them; nothing if there are none.
std::string widths_of(const Json& report) {
  if (!report.contains("widths")) {
    return "";
  }
  const Json& widths = report["widths"];
  std::string text = fmt::format("widths      {} matrices in {} pieces, also",
                                 widths["matrices"].get<size_t>(), widths["pieces"].get<size_t>());
  const char* before = " ";
  for (const auto& [name, n] : widths["pieces_at"].items()) {
    text += fmt::format("{}{} ({:.0f} %)", before, name,
                        100 * n.get<double>() / widths["pieces"].get<double>());
    before = ", ";
  }
  return text + fmt::format(": {} of copies\n", human_bytes(widths["copy_bytes"].get<uint64_t>()));
}

std::string text_of(const Json& value) {
  if (!value.is_string()) {
    return value.dump();
  }
  return value_to_string(GgufValue::string(value.get<std::string>()));
}

// Text from the file as it may stand in a table: on one line, and of bounded length.
std::string cell_of(const Json& value) {
  constexpr size_t kLongest = 256;
  return printable(value.get_ref<const std::string&>(), kLongest);
}

// "i8_row 182.9 MB (98 %), f32 3.4 MB (2 %)", the largest first.
std::string types_of(const Json& report) {
  std::map<std::string, uint64_t> bytes;
  for (const Json& tensor : report["tensors"]) {
    bytes[tensor["type"].get<std::string>()] += tensor["bytes"].get<uint64_t>();
  }
  std::vector<std::pair<std::string, uint64_t>> types(bytes.begin(), bytes.end());
  std::stable_sort(types.begin(), types.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  const double all = std::max(1.0, report["tensor_bytes"].get<double>());
  std::string text;
  for (const auto& [type, n_bytes] : types) {
    text += fmt::format("{}{} {} ({:.0f} %)", text.empty() ? "" : ", ", type, human_bytes(n_bytes),
                        100 * static_cast<double>(n_bytes) / all);
  }
  return text;
}

// What the metadata of a packed file says of its vocabulary and its recipe; nothing of others.
std::string origin_of(const Json& metadata) {
  const auto text_at = [&](const char* key) {
    return metadata.contains(key) && metadata[key].is_string() ? metadata[key].get<std::string>()
                                                               : std::string();
  };
  std::string text;
  if (metadata.contains(keys::kFormat)) {
    const std::string kind = text_at("tokenizer.ggml.model");
    text += fmt::format("vocabulary  {}\n",
                        kind.empty() ? "none: the model works on token ids" : printable(kind, 64));
    const std::string recipe = text_at(keys::kRecipe);
    constexpr std::string_view kName = "name: \"";
    const size_t name = recipe.find(kName);
    text += fmt::format(
        "recipe      {}\n",
        name == std::string::npos
            ? "without a name"
            : printable(recipe.substr(name + kName.size(),
                                      recipe.find('"', name + kName.size()) - name - kName.size()),
                        256));
    text += fmt::format("source      {} ({})\n", printable(text_at(keys::kSourceFile), 256),
                        printable(text_at(keys::kSourceFormat), 64));
  }
  return text;
}

// A file whose model is not known is shown with everything in it.
bool is_unknown(const Json& report) {
  return report["model"].contains("unknown");
}

std::string summary_of(const Json& report) {
  const Json& model = report["model"];
  const auto number = [&](const char* key) { return model.value(key, uint64_t{0}); };
  std::string text = fmt::format("file        {}\nformat      {}\n", cell_of(report["file"]),
                                 report["format"].get<std::string>());
  if (is_unknown(report)) {
    return text +
           fmt::format("model       unknown: {}\nweights     {} tensors, {}: {}\n",
                       printable(model["unknown"].get<std::string>()), report["tensors"].size(),
                       human_bytes(report["tensor_bytes"].get<uint64_t>()), types_of(report));
  }
  text += fmt::format("model       {}, {} layers x {}, vocabulary {}, {:.1f} million parameters\n",
                      model["label"].get<std::string>(), number("n_layer"), number("n_embd"),
                      number("n_vocab"), report["n_parameters"].get<double>() * 1e-6);
  text += origin_of(report["metadata"]);
  return text +
         fmt::format("weights     {} tensors, {}: {}\n", report["tensors"].size(),
                     human_bytes(report["tensor_bytes"].get<uint64_t>()), types_of(report)) +
         bits_of(report) + widths_of(report);
}

}  // namespace

Json report_model(const ModelConfig& config) {
  Json model = {{"version", version_traits(config.version).name},
                {"label", version_label(config)},
                {"low_rank", low_rank_form_name(config.low_rank)}};
  GgufMetadata metadata;
  config_to_metadata(config, metadata);
  constexpr std::string_view kPrefix = "rwkv.";
  for (const auto& [key, value] : metadata.entries()) {
    if (!std::holds_alternative<std::string>(value.value)) {
      model[key.substr(kPrefix.size())] = value_to_json(value);
    }
  }
  model["state_bytes"] = config.state_floats() * sizeof(float);
  return model;
}

namespace {

Json report_all(std::span<const PackedTensor> tensors) {
  Json report = Json::array();
  for (const PackedTensor& tensor : tensors) {
    report.push_back({{"name", tensor.name},
                      {"type", codec_traits(tensor.codec).name},
                      {"shape", tensor.shape},
                      {"numbers", tensor.rows * tensor.cols},
                      {"bytes", tensor.n_bytes},
                      {"offset", tensor.offset},
                      {"xxh64", fmt::format("{:016x}", tensor.xxh64)}});
  }
  return report;
}

void add_widths(const std::vector<ShardedMatrix>& shards, const std::vector<PackedTensor>& tensors,
                Json& report) {
  size_t n_pieces = 0;
  Json pieces_at = Json::object();
  for (const ShardedMatrix& matrix : shards) {
    n_pieces += matrix.pieces.size();
    for (const ShardPiece& piece : matrix.pieces) {
      for (const ShardVersion& version : std::span(piece.versions).subspan(1)) {
        const bool is_there = version.tensor != ShardVersion::kNothing;
        const std::string width =
            is_there ? tensors[version.tensor].name.substr(tensors[matrix.tensor].name.size() + 1)
                     : kLeftOut;
        pieces_at[width] = pieces_at.value(width, size_t{0}) + 1;
      }
    }
  }
  uint64_t bytes = 0;
  for (const Json& copy : report["copies"]) {
    bytes += copy["bytes"].get<uint64_t>();
  }
  report["widths"] = {{"matrices", shards.size()},
                      {"pieces", n_pieces},
                      {"pieces_at", std::move(pieces_at)},
                      {"copy_bytes", bytes}};
}

}  // namespace

Result<Json> report_packed(const GgufFile& file) {
  RWKV_ASSIGN(const std::vector<PackedTensor> tensors, packed_tensors(file));
  RWKV_ASSIGN(const ModelConfig config, config_from_metadata(file.metadata()));
  Json report = {{"file", file.origin()}, {"format", "packed"}, {"model", report_model(config)}};
  Json metadata = Json::object();
  for (const auto& [key, value] : file.metadata().entries()) {
    metadata[key] = value_to_json(value);
  }
  report["metadata"] = std::move(metadata);
  const auto all = std::span(tensors);
  const size_t n_complete = n_complete_tensors(all);
  report["tensors"] = report_all(all.first(n_complete));
  add_totals(report);
  add_bits(report);
  auto shards = shard_index(file.metadata(), tensors);
  RWKV_TRY(shards.status().in(file.origin()));
  if (!shards.value().empty()) {
    report["copies"] = report_all(all.subspan(n_complete));
    add_widths(shards.value(), tensors, report);
  }
  return report;
}

namespace {

Json report_tensor(const TensorInfo& info) {
  return {{"name", info.name},
          {"type", traits(info.dtype).name},
          {"shape", info.shape},
          {"numbers", info.n_elements()},
          {"bytes", info.n_bytes()}};
}

Json report_infos(const TensorSource& source, Json model) {
  Json report = {{"file", source.path()},
                 {"format", source.format()},
                 {"model", std::move(model)},
                 {"metadata", source.metadata()}};
  report["tensors"] = Json::array();
  for (const TensorInfo& info : source.tensors()) {
    report["tensors"].push_back(report_tensor(info));
  }
  add_totals(report);
  return report;
}

}  // namespace

Json report_source(const TensorSource& source, const ModelConfig& config) {
  return report_infos(source, report_model(config));
}

Json report_unknown(const TensorSource& source, const std::string& reason) {
  return report_infos(source, {{"unknown", reason}});
}

Json report_gguf(const GgufFile& file, const std::string& reason) {
  Json report = {{"file", file.origin()}, {"format", "gguf"}, {"model", {{"unknown", reason}}}};
  Json metadata = Json::object();
  for (const auto& [key, value] : file.metadata().entries()) {
    metadata[key] = value_to_json(value);
  }
  report["metadata"] = std::move(metadata);
  report["tensors"] = Json::array();
  for (const GgufTensor& tensor : file.tensors()) {
    report["tensors"].push_back(report_tensor(tensor.info()));
  }
  add_totals(report);
  return report;
}

Details details_from(const cxxopts::ParseResult& arguments) {
  return {arguments.count("tensors") > 0, arguments.count("metadata") > 0};
}

std::string report_to_text(const Json& report, const Details& details) {
  std::string text = summary_of(report);
  const bool is_all = is_unknown(report);
  if (details.metadata && !is_all) {
    text += "model\n";
    for (const auto& [key, value] : report["model"].items()) {
      text += fmt::format("  {:<18} {}\n", key,
                          value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
  if (details.metadata || (is_all && !report["metadata"].empty())) {
    text += "metadata\n";
    for (const auto& [key, value] : report["metadata"].items()) {
      text += fmt::format("  {:<34} {}\n", printable(key, 256), text_of(value));
    }
  }
  if (details.tensors || is_all) {
    text +=
        fmt::format("tensors\n  {:<36} {:<8} {:>16} {:>14}\n", "name", "type", "shape", "bytes");
    for (const char* part : {"tensors", "copies"}) {
      for (const Json& tensor : report.value(part, Json::array())) {
        text += fmt::format("  {:<36} {:<8} {:>16} {:>14}\n", cell_of(tensor["name"]),
                            tensor["type"].get<std::string>(),
                            shape_to_string(tensor["shape"].get<std::vector<uint64_t>>()),
                            tensor["bytes"].get<uint64_t>());
      }
    }
  }
  if (report.contains("verified")) {
    text +=
        "verified    every tensor was read and matches its checksum, where the format has one\n";
  }
  return text;
}

std::string report_to_json(const Json& report) {
  return report.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace rwkv::cli
