#include "runtime/tools/bench_compare.h"

#include <deque>
#include <memory>

#include "formats/cli/print.h"
#include "formats/cli/version.h"
#include "runtime/bench/bandwidth.h"
#include "runtime/tools/bench_report.h"

namespace rwkv::edge {
namespace {

using Json = nlohmann::ordered_json;
using Models = std::vector<std::shared_ptr<const Model>>;

// The results of the runs with one model: medians of each run, and ratios to the first model.
struct Measured {
  std::vector<double> decode, prefill;
  std::vector<double> decode_ratio, prefill_ratio;
};

Json json_of(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

Json row_of(const std::string& path, unsigned n_threads, const BenchSubject& subject,
            Measured measured, int64_t n_prompt, double bandwidth) {
  const size_t n_runs = measured.decode.size();
  Json row = {{"file", path}};
  row.update(bench_row(n_threads, spread_of(std::move(measured.decode)), n_runs,
                       spread_of(std::move(measured.prefill)), n_prompt,
                       subject.bytes_per_token()));
  row["share_of_bandwidth"] = bandwidth > 0 ? row["decode_gb_per_s"].get<double>() / bandwidth : 0;
  row["decode_ratio"] = json_of(spread_of(std::move(measured.decode_ratio)));
  row["prefill_ratio"] = json_of(spread_of(std::move(measured.prefill_ratio)));
  return row;
}

Result<Json> bench_threads(const std::vector<std::string>& paths, const Models& models,
                           unsigned n_threads, const BenchOptions& options) {
  std::deque<BenchSubject> subjects;  // they cannot be moved
  for (const auto& model : models) {
    subjects.emplace_back(model, n_threads);
  }
  BandwidthProbe probe(n_threads);
  std::vector<Measured> measured(models.size());
  const Measured& first = measured.front();
  for (int64_t run = 0; run < options.n_runs; ++run) {
    for (size_t i = 0; i < models.size(); ++i) {
      probe.pass();
      RWKV_TRY(subjects[i].decode(static_cast<size_t>(options.n_decode)));
      Measured& here = measured[i];
      here.decode.push_back(spread_of(subjects[i].take_rates()).median);
      RWKV_TRY(subjects[i].prefill(static_cast<size_t>(options.n_prompt), here.prefill));
      here.decode_ratio.push_back(first.decode.back() / here.decode.back());
      here.prefill_ratio.push_back(first.prefill.back() / here.prefill.back());
    }
  }
  const double bandwidth = probe.median();
  Json of_models = Json::array();
  for (size_t i = 0; i < models.size(); ++i) {
    of_models.push_back(row_of(paths[i], n_threads, subjects[i], std::move(measured[i]),
                               options.n_prompt, bandwidth));
  }
  return Json{{"threads", n_threads}, {"read_gb_per_s", bandwidth}, {"models", of_models}};
}

}  // namespace

Result<Json> bench_in_turn(const std::vector<std::string>& paths, const MemoryOptions& memory,
                           const std::vector<unsigned>& threads, const BenchOptions& options) {
  Models models;
  for (const std::string& path : paths) {
    RWKV_ASSIGN(auto model, Model::open(path, memory));
    models.push_back(std::move(model));
  }
  Json report = {{"version", cli::kVersion},
                 {"compiler", cli::kCompiler},
                 {"kernels", kernels().value()->name},
                 {"runs", Json::array()}};
  for (const unsigned n : threads) {
    RWKV_ASSIGN(Json run, bench_threads(paths, models, n, options));
    report["runs"].push_back(std::move(run));
  }
  return report;
}

void print_in_turn(const Json& report) {
  cli::print("kernels {}\n", report["kernels"].get<std::string>());
  size_t number_of_model = 0;
  for (const Json& model : report["runs"].front()["models"]) {
    cli::print("model {} {}\n", ++number_of_model, model["file"].get<std::string>());
  }
  cli::print("\n{:>7} {:>5} {:>10} {:>19} {:>10} {:>19} {:>9} {:>6}\n", "threads", "model",
             "decode/s", "[min-max]", "prefill/s", "[min-max]", "MB/token", "share");
  for (const Json& run : report["runs"]) {
    size_t i = 0;
    for (const Json& model : run["models"]) {
      const auto number = [&](const char* key) { return model[key].get<double>(); };
      const auto ratio = [&](const char* what) {
        const Json& r = model[what];
        return fmt::format("{:.2f} [{:.2f}-{:.2f}]", r["median"].get<double>(),
                           r["min"].get<double>(), r["max"].get<double>());
      };
      cli::print("{:>7} {:>5} {:>10.2f} {:>19} {:>10.2f} {:>19} {:>9.1f} {:>5.0f}%\n",
                 run["threads"].get<unsigned>(), ++i, number("decode_tokens_per_s"),
                 fmt::format("[{:.2f}-{:.2f}]", number("decode_min"), number("decode_max")),
                 number("prefill_tokens_per_s"),
                 fmt::format("[{:.2f}-{:.2f}]", number("prefill_min"), number("prefill_max")),
                 1e-6 * number("touched_bytes_per_token"), 100 * number("share_of_bandwidth"));
      if (i > 1) {
        cli::print("{:>13} model 1 is {} times as fast in decoding, {} in prefill\n", "",
                   ratio("decode_ratio"), ratio("prefill_ratio"));
      }
    }
  }
}

}  // namespace rwkv::edge
