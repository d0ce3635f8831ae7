// rwkv-press eval: how good packed files are, on the runtime that devices run.
#include <ATen/Parallel.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "compressor/evaluate/cloze.h"
#include "compressor/tools/commands.h"
#include "formats/cli/command.h"
#include "formats/cli/progress.h"

namespace rwkv::press {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxThreads = 256;
constexpr size_t kShownComplaints = 5;
constexpr double kMostDigits = 1e6;  // perplexities beyond are shown with an exponent

void print_complaints(const ClozeSet& set) {
  const size_t n = std::min(set.complaints.size(), kShownComplaints);
  for (size_t i = 0; i < n; ++i) {
    fmt::print(stderr, "rwkv-press: skipped: {}\n", set.complaints[i]);
  }
  if (set.malformed > n) {
    fmt::print(stderr, "rwkv-press: skipped: {} more lines\n", set.malformed - n);
  }
}

// Of the table's first column: models, and kinds below them.
size_t name_width(const std::vector<std::string>& models, const ClozeSet& set) {
  size_t width = std::string_view("model").size();
  for (const std::string& model : models) {
    width = std::max(width, model.size());
  }
  for (const ClozeDocument& document : set.documents) {
    width = std::max(width, document.kind.size() + 2);
  }
  return width;
}

void print_row(const std::string& name, size_t width, const ClozeTally& tally,
               const std::string& perplexity) {
  fmt::print("{:<{}} {:>9} {:>10.2f} {:>6.2f} {:>12}\n", name, width, tally.documents,
             100.0 * tally.accuracy(), 100.0 * tally.standard_error(), perplexity);
}

void print_result(const std::string& model, size_t width, const ClozeResult& result) {
  const double perplexity = result.perplexity();
  print_row(model, width, result.all,
            perplexity < kMostDigits ? fmt::format("{:.3f}", perplexity)
                                     : fmt::format("{:.3e}", perplexity));
  for (const auto& [kind, tally] : result.kinds) {
    print_row("  " + kind, width, tally, "");
  }
}

Json tally_to_json(const ClozeTally& tally) {
  return {{"documents", tally.documents},
          {"right", tally.right},
          {"accuracy", tally.accuracy()},
          {"standard_error", tally.standard_error()}};
}

Json result_to_json(const std::string& model, const ClozeResult& result) {
  Json report = {{"model", model}};
  report.update(tally_to_json(result.all));
  report["perplexity"] = result.perplexity();
  report["malformed"] = result.malformed;
  report["kinds"] = Json::object();
  for (const auto& [kind, tally] : result.kinds) {
    report["kinds"][kind] = tally_to_json(tally);
  }
  return report;
}

Result<std::vector<std::string>> models_from(const cxxopts::ParseResult& arguments) {
  if (arguments.count("models") == 0) {
    return usage_error("'models' is missing; see --help");
  }
  const auto models = arguments["models"].as<std::vector<std::string>>();
  // All of them before the first is evaluated.
  for (const std::string& model : models) {
    RWKV_TRY(check_packed(model));
  }
  return models;
}

}  // namespace

void declare_eval(cxxopts::Options& options, std::vector<std::string>& positionals) {
  options.add_options()("models", "Packed files", cxxopts::value<std::vector<std::string>>())(
      "cloze", "Texts whose last word is to be found: .jsonl, 'text' and perhaps 'kind' a line",
      cxxopts::value<std::string>())("max-docs", "Only the first N documents; 0: all",
                                     cxxopts::value<std::string>()->default_value("0"))(
      "t,threads", "Threads (default: the processors available)", cxxopts::value<std::string>())(
      "json", "Print JSON")("quiet", "No progress");
  positionals = {"models"};
}

Status run_eval(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string cloze, cli::required(arguments, "cloze"));
  RWKV_ASSIGN(const int64_t max_docs, cli::integer(arguments, "max-docs", 0, INT64_MAX));
  int64_t n_threads = std::clamp<int64_t>(at::get_num_threads(), 1, kMaxThreads);
  if (arguments.count("threads") > 0) {
    RWKV_ASSIGN(n_threads, cli::integer(arguments, "threads", 1, kMaxThreads));
  }
  RWKV_ASSIGN(const std::vector<std::string> models, models_from(arguments));
  RWKV_ASSIGN(const ClozeSet set, read_cloze(cloze, static_cast<uint64_t>(max_docs)));
  print_complaints(set);

  const bool as_json = arguments.count("json") > 0;
  const size_t width = name_width(models, set);
  if (!as_json) {
    fmt::print("{:<{}} {:>9} {:>10} {:>6} {:>12}\n", "model", width, "documents", "accuracy %",
               "+-", "perplexity");
  }
  Json reports = Json::array();
  for (const std::string& model : models) {
    Result<ClozeResult> result = ClozeResult();
    {
      cli::Progress progress("evaluating", set.documents.size(), arguments.count("quiet") > 0);
      result = evaluate_cloze(model, set, {static_cast<unsigned>(n_threads), [&](uint64_t done) {
                                             progress.update(done);
                                           }});
    }
    RWKV_TRY(result.status());
    if (as_json) {
      reports.push_back(result_to_json(model, result.value()));
    } else {
      print_result(model, width, result.value());
    }
  }
  if (as_json) {
    fmt::print("{}\n", reports.dump(2, ' ', false, Json::error_handler_t::replace));
  }
  return {};
}

}  // namespace rwkv::press
