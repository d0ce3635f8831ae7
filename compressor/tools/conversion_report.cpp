#include "compressor/tools/conversion_report.h"

#include <filesystem>
#include <map>

#include "compressor/checkpoint/checkpoint_files.h"
#include "compressor/checkpoint/open.h"
#include "compressor/evaluate/packed_errors.h"
#include "formats/base/file.h"
#include "formats/base/output_file.h"
#include "formats/base/printable.h"
#include "formats/cli/command.h"
#include "formats/cli/version.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::string_view kBegins = "{\n  \"format\": \"rwkv-press report\",";
constexpr int kReportVersion = 1;

Json tensors_of(const ConversionReport& report, const std::map<std::string, double>& errors) {
  Json tensors = Json::array();
  for (const PlannedTensor& tensor : report.plan.tensors) {
    const uint64_t n = tensor.binding.packed_rows() * tensor.binding.packed_cols();
    Json row = {{"name", tensor.binding.name},
                {"role", role_traits(tensor.binding.role).name},
                {"shape", tensor.binding.shape},
                {"codec", codec_traits(tensor.codec).name},
                {"bytes", tensor.encoded_bytes()},
                {"bits", 8.0 * static_cast<double>(tensor.encoded_bytes()) /
                             static_cast<double>(std::max<uint64_t>(1, n))}};
    if (const auto found = errors.find(tensor.binding.name); found != errors.end()) {
      row["error"] = found->second;
    }
    const auto& outputs = report.output_errors;
    if (const auto found = outputs.find(tensor.binding.name); found != outputs.end()) {
      row["output_error"] = found->second;
    }
    tensors.push_back(std::move(row));
  }
  return tensors;
}

// Matrices of the checkpoint that are pairs now.
Json pairs_of(const ConversionReport& report, const std::map<std::string, double>& errors) {
  Json pairs = Json::array();
  for (const auto& [name, error] : errors) {
    if (report.plan.find(name) != nullptr) {
      continue;
    }
    Json row = {{"name", name}, {"error", error}};
    if (const auto found = report.output_errors.find(name); found != report.output_errors.end()) {
      row["output_error"] = found->second;
    }
    pairs.push_back(std::move(row));
  }
  return pairs;
}

// Narrower copies of rows, and what every piece of a matrix loses at every width.
Json copies_of(const ConversionReport& report) {
  Json copies = Json::array();
  for (const PlannedCopy& copy : press::copies_of(report.plan)) {
    const PlannedShards::Matrix& matrix = report.plan.shards.matrices[copy.matrix];
    Json losses = Json::array();
    for (const uint64_t piece : copy.pieces) {
      losses.push_back(matrix.losses[piece * report.plan.shards.widths.size() + copy.width]);
    }
    copies.push_back({{"name", copy.name},
                      {"codec", codec_traits(copy.codec).name},
                      {"rows", copy.rows},
                      {"bytes", copy.encoded_bytes()},
                      {"piece_rows", matrix.piece_rows},
                      {"pieces", copy.pieces},
                      {"losses", losses}});
  }
  return copies;
}

Json stages_of(const ConversionReport& report) {
  Json stages = Json::array();
  const size_t n = report.recipe.stages.size() + 1;
  for (size_t i = 0; i < n; ++i) {
    Json row = {{"name", i + 1 < n ? report.recipe.stages[i]->name() : "pack"}};
    // Stages that an earlier run had finished are not among the records.
    const size_t before = n - std::min(n, report.stages.size());
    row["kept_from_before"] = i < before;
    if (i >= before) {
      const StageRecord& record = report.stages[i - before];
      row["seconds"] = record.seconds;
      row["cpu_seconds"] = record.cpu_seconds;
      row["peak_memory"] = record.peak;
    }
    stages.push_back(std::move(row));
  }
  return stages;
}

Result<Json> file_of(const std::string& path) {
  RWKV_ASSIGN(const uint64_t bytes, checkpoint_bytes(path));
  RWKV_ASSIGN(const uint64_t hash, checkpoint_xxh64(path));
  return Json{{"path", printable(path)}, {"bytes", bytes}, {"xxh64", fmt::format("{:016x}", hash)}};
}

}  // namespace

void declare_report_options(cxxopts::Options& options) {
  options.add_options()("report", "Report on tensors and stages (default OUTPUT.report.json)",
                        cxxopts::value<std::string>(), "FILE")("no-report", "Write no report");
}

Result<std::string> report_path(const cxxopts::ParseResult& arguments, const std::string& output) {
  if (arguments.count("no-report") > 0) {
    return arguments.count("report") > 0
               ? usage_error("--report and --no-report exclude each other; remove one of them")
               : Result<std::string>(std::string());
  }
  std::string path = output + ".report.json";
  if (arguments.count("report") > 0) {
    RWKV_ASSIGN(path, cli::required(arguments, "report"));
  }
  std::error_code error;
  if (fs::equivalent(path, output, error) || path == output) {
    return usage_error("{}: is the output itself; choose another name for --report", path);
  }
  if (fs::exists(path, error)) {
    const auto file = InputFile::open(path);
    std::vector<std::byte> begin(kBegins.size());
    const bool is_like =
        file.ok() && file.value()->size() >= begin.size() && file.value()->read_at(0, begin).ok() &&
        std::string_view(reinterpret_cast<const char*>(begin.data()), begin.size()) == kBegins;
    if (!is_like) {
      return usage_error(
          "{}: expected a report of rwkv-press or no file, found another file; choose another name "
          "with --report, or write none with --no-report",
          path);
    }
  }
  RWKV_TRY(OutputFile::check(path, OutputFile::Existing::Replace));
  return path;
}

Status write_report(const ConversionReport& report, const std::string& path) {
  RWKV_ASSIGN(const Checkpoint packed, open_checkpoint(report.packed.output));
  RWKV_ASSIGN(const std::vector<PackedError> list,
              packed_errors(*packed.source, report.plan, report.original));
  std::map<std::string, double> errors;
  for (const PackedError& each : list) {
    errors[each.name] = each.error;
  }
  RWKV_ASSIGN(const Json input, file_of(report.original.path()));
  RWKV_ASSIGN(const Json output, file_of(report.packed.output));
  double seconds = 0;
  double cpu = 0;
  for (const StageRecord& stage : report.stages) {
    seconds += stage.seconds;
    cpu += stage.cpu_seconds;
  }
  const Json json = {{"format", "rwkv-press report"},
                     {"version", kReportVersion},
                     {"program", cli::kVersion},
                     {"model", printable(describe(report.plan.config))},
                     {"input", input},
                     {"output", output},
                     {"recipe", report.recipe.effective_yaml()},
                     {"device", report.device},
                     {"device_in_fp16", report.device_in_fp16},
                     {"seconds", seconds},
                     {"cpu_seconds", cpu},
                     {"peak_memory", peak_bytes()},
                     {"estimate", to_json(report.estimate, report.machine)},
                     {"stages", stages_of(report)},
                     {"pairs", pairs_of(report, errors)},
                     {"tensors", tensors_of(report, errors)},
                     {"copies", copies_of(report)}};
  const std::string text =
      json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  RWKV_ASSIGN(const auto file, OutputFile::create(path, OutputFile::Existing::Replace));
  RWKV_TRY(file->write(std::as_bytes(std::span(text))));
  return file->commit();
}

}  // namespace rwkv::press
