// rwkv-edge bench: speed, memory and bandwidth of a model on this machine.
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/cli/command.h"
#include "formats/cli/version.h"
#include "runtime/tools/bandwidth.h"
#include "runtime/tools/bench_measure.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

uint64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

struct BenchOptions {
  int64_t n_decode;
  int64_t n_prompt;
  int64_t n_runs;
};

Result<Json> bench_threads(const std::shared_ptr<const Model>& model, unsigned n_threads,
                           const BenchOptions& options, size_t& n_evaluated) {
  BenchSubject subject(model, n_threads);
  std::optional<BandwidthProbe> probe(std::in_place, n_threads);
  std::vector<double> decode;
  std::vector<double> prefill;
  // In turn with reading alone.
  constexpr int64_t kTokensAtATime = 16;
  for (int64_t done = 0; done < options.n_decode; done += kTokensAtATime) {
    probe->pass();
    RWKV_TRY(subject.decode(static_cast<size_t>(std::min(kTokensAtATime, options.n_decode - done)),
                            decode));
  }
  probe->pass();
  const double bandwidth = probe->median();
  probe.reset();  // its memory is wanted no more
  for (int64_t run = 0; run < options.n_runs; ++run) {
    RWKV_TRY(subject.prefill(static_cast<size_t>(options.n_prompt), prefill));
  }
  n_evaluated += subject.n_evaluated();
  Json row = bench_row(n_threads, spread_of(decode), decode.size(), spread_of(prefill),
                       options.n_prompt, subject.bytes_per_token());
  row["read_gb_per_s"] = bandwidth;
  row["share_of_bandwidth"] = bandwidth > 0 ? row["decode_gb_per_s"].get<double>() / bandwidth : 0;
  return row;
}

// Two models in turn, so that whatever else the machine does hits both.
Result<Json> bench_pair(const std::array<std::shared_ptr<const Model>, 2>& models,
                        unsigned n_threads, const BenchOptions& options) {
  std::array<BenchSubject, 2> subjects = {BenchSubject(models[0], n_threads),
                                          BenchSubject(models[1], n_threads)};
  std::array<std::vector<double>, 2> decode;
  std::array<std::vector<double>, 2> prefill;
  std::vector<double> decode_ratios;
  std::vector<double> prefill_ratios;
  for (int64_t run = 0; run < options.n_runs; ++run) {
    std::array<double, 2> decode_median{};
    for (size_t i = 0; i < 2; ++i) {
      std::vector<double> rates;
      RWKV_TRY(subjects[i].decode(static_cast<size_t>(options.n_decode), rates));
      RWKV_TRY(subjects[i].prefill(static_cast<size_t>(options.n_prompt), prefill[i]));
      decode_median[i] = spread_of(std::move(rates)).median;
      decode[i].push_back(decode_median[i]);
    }
    decode_ratios.push_back(decode_median[0] / decode_median[1]);
    prefill_ratios.push_back(prefill[0].back() / prefill[1].back());
  }
  Json pair = Json::object();
  for (size_t i = 0; i < 2; ++i) {
    pair[i == 0 ? "model" : "other"] =
        bench_row(n_threads, spread_of(decode[i]), decode[i].size(), spread_of(prefill[i]),
                  options.n_prompt, subjects[i].bytes_per_token());
  }
  const Spread d = spread_of(std::move(decode_ratios));
  const Spread p = spread_of(std::move(prefill_ratios));
  pair["threads"] = n_threads;
  pair["decode_ratio"] = {{"median", d.median}, {"min", d.min}, {"max", d.max}};
  pair["prefill_ratio"] = {{"median", p.median}, {"min", p.min}, {"max", p.max}};
  return pair;
}

void print_pairs(const Json& report) {
  fmt::print("model   {}\nother   {}\nkernels {}\n\n", report["file"].get<std::string>(),
             report["other"].get<std::string>(), report["kernels"].get<std::string>());
  fmt::print("{:>7} {:<8} {:>10} {:>19} {:>10} {:>19} {:>12}\n", "threads", "", "decode/s",
             "[min-max]", "prefill/s", "[min-max]", "MB/token");
  for (const Json& pair : report["runs"]) {
    for (const char* which : {"model", "other"}) {
      const auto number = [&](const char* key) { return pair[which][key].get<double>(); };
      fmt::print("{:>7} {:<8} {:>10.2f} {:>19} {:>10.2f} {:>19} {:>12.1f}\n",
                 pair["threads"].get<unsigned>(), which, number("decode_tokens_per_s"),
                 fmt::format("[{:.2f}-{:.2f}]", number("decode_min"), number("decode_max")),
                 number("prefill_tokens_per_s"),
                 fmt::format("[{:.2f}-{:.2f}]", number("prefill_min"), number("prefill_max")),
                 1e-6 * number("touched_bytes_per_token"));
    }
    const auto ratio = [&](const char* what) {
      const Json& r = pair[what];
      return fmt::format("{:.2f} [{:.2f}-{:.2f}]", r["median"].get<double>(),
                         r["min"].get<double>(), r["max"].get<double>());
    };
    fmt::print("{:>7} model is {} times as fast in decoding, {} in prefill\n", "",
               ratio("decode_ratio"), ratio("prefill_ratio"));
  }
}

// bench names several numbers of threads; memory is planned for the largest.
unsigned most_threads(const std::vector<unsigned>& threads) {
  return *std::max_element(threads.begin(), threads.end());
}

Result<std::vector<unsigned>> thread_list(const cxxopts::ParseResult& arguments) {
  if (arguments.count("threads") == 0) {
    RWKV_ASSIGN(const unsigned n, threads_from(arguments));
    return n == 1 ? std::vector<unsigned>{1} : std::vector<unsigned>{1, n};
  }
  RWKV_ASSIGN(const std::vector<int32_t> list, parse_ids(arguments["threads"].as<std::string>()));
  if (list.empty()) {
    return usage_error("--threads is empty, numbers from 1 to 256 are wanted");
  }
  for (const int32_t n : list) {
    if (n < 1 || n > 256) {
      return usage_error("--threads has {}, numbers from 1 to 256 are wanted", n);
    }
  }
  return std::vector<unsigned>(list.begin(), list.end());
}

void print_text(const Json& report) {
  fmt::print("model            {}\nkernels          {}\n", report["model"].get<std::string>(),
             report["kernels"].get<std::string>());
  fmt::print("load             {:.1f} ms to open, {:.1f} ms to first logits\n",
             report["open_ms"].get<double>(), report["first_logits_ms"].get<double>());
  fmt::print("weights          {}; at most {} touched per token, with the state\n",
             cli::human_bytes(report["weight_bytes"].get<uint64_t>()),
             cli::human_bytes(report["bytes_per_token"].get<uint64_t>()));
  fmt::print("peak memory      {}\n\n", cli::human_bytes(report["peak_rss_bytes"].get<uint64_t>()));
  fmt::print("{:>7} {:>10} {:>19} {:>10} {:>19} {:>9} {:>8} {:>8} {:>6}\n", "threads", "decode/s",
             "[min-max]", "prefill/s", "[min-max]", "MB/token", "GB/s", "of GB/s", "share");
  for (const Json& run : report["runs"]) {
    const auto number = [&](const char* key) { return run[key].get<double>(); };
    fmt::print("{:>7} {:>10.2f} {:>19} {:>10.2f} {:>19} {:>9.1f} {:>8.2f} {:>8.2f} {:>5.0f}%\n",
               run["threads"].get<unsigned>(), number("decode_tokens_per_s"),
               fmt::format("[{:.2f}-{:.2f}]", number("decode_min"), number("decode_max")),
               number("prefill_tokens_per_s"),
               fmt::format("[{:.2f}-{:.2f}]", number("prefill_min"), number("prefill_max")),
               1e-6 * number("touched_bytes_per_token"), number("decode_gb_per_s"),
               number("read_gb_per_s"), 100 * number("share_of_bandwidth"));
  }
}

}  // namespace

void declare_bench(cxxopts::Options& options, std::vector<std::string>& positionals) {
  declare_model_options(options, positionals);
  declare_memory_options(options);
  options.add_options()("n", "Tokens to decode",
                        cxxopts::value<std::string>()->default_value("32"))(
      "prompt", "Tokens of the prompt", cxxopts::value<std::string>()->default_value("128"))(
      "runs", "Runs of the prompt", cxxopts::value<std::string>()->default_value("3"))(
      "compare", "A second model, run in turn with the first", cxxopts::value<std::string>())(
      "json", "Print JSON");
}

namespace {

void print_json(const Json& report) {
  fmt::print("{}\n", report.dump(2, ' ', false, Json::error_handler_t::replace));
}

Status run_pairs(const cxxopts::ParseResult& arguments, const std::shared_ptr<const Model>& model,
                 const MemoryOptions& memory, const std::vector<unsigned>& threads,
                 const BenchOptions& options) {
  RWKV_ASSIGN(const std::string other_path, cli::required(arguments, "compare"));
  RWKV_ASSIGN(const auto other, Model::open(other_path, memory));
  Json report = {{"file", arguments["model"].as<std::string>()},
                 {"other", other_path},
                 {"version", cli::kVersion},
                 {"compiler", cli::kCompiler},
                 {"kernels", kernels().value()->name},
                 {"runs", Json::array()}};
  for (const unsigned n : threads) {
    RWKV_ASSIGN(Json pair, bench_pair({model, other}, n, options));
    report["runs"].push_back(std::move(pair));
  }
  arguments.count("json") > 0 ? print_json(report) : print_pairs(report);
  return {};
}

}  // namespace

Status run_bench(const cxxopts::ParseResult& arguments) {
  BenchOptions options{};
  RWKV_ASSIGN(options.n_decode, cli::integer(arguments, "n", 1, 1 << 20));
  RWKV_ASSIGN(options.n_prompt, cli::integer(arguments, "prompt", 1, 1 << 20));
  RWKV_ASSIGN(options.n_runs, cli::integer(arguments, "runs", 1, 1000));
  RWKV_ASSIGN(const std::vector<unsigned> threads, thread_list(arguments));
  const auto start = Clock::now();
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "model"));
  RWKV_ASSIGN(const MemoryOptions memory, memory_from(arguments, most_threads(threads)));
  RWKV_ASSIGN(const auto model, Model::open(path, memory));
  if (arguments.count("compare") > 0) {
    return run_pairs(arguments, model, memory, threads, options);
  }
  const double open_ms = 1e3 * seconds_since(start);
  RWKV_ASSIGN(const double first_logits_ms, [&]() -> Result<double> {
    Evaluator evaluator(model, {threads.front(), 1});
    State state = model->empty_state();
    std::vector<float> logits(model->config().n_vocab);
    const std::vector<int32_t> token = {0};
    RWKV_TRY(evaluator.forward(token, state, Logits::Last, logits));
    return 1e3 * seconds_since(start);
  }());
  // Once through, before the reading test, whose buffer is not the model's.
  size_t n_evaluated = 1;
  {
    BenchSubject subject(model, most_threads(threads));
    std::vector<double> unused;
    RWKV_TRY(subject.prefill(static_cast<size_t>(options.n_prompt), unused));
    RWKV_TRY(subject.decode(1, unused));
    n_evaluated += subject.n_evaluated();
  }
  const uint64_t peak_rss = peak_rss_bytes();
  Json report = {{"model", describe(model->config())},
                 {"file", arguments["model"].as<std::string>()},
                 {"version", cli::kVersion},
                 {"compiler", cli::kCompiler},
                 {"kernels", kernels().value()->name},
                 {"open_ms", open_ms},
                 {"first_logits_ms", first_logits_ms},
                 {"weight_bytes", model->weights().total_bytes()},
                 {"bytes_per_token", model->weights().bytes_per_token() +
                                         2 * model->config().state_floats() * sizeof(float)}};
  report["runs"] = Json::array();
  for (const unsigned n : threads) {
    RWKV_ASSIGN(Json run, bench_threads(model, n, options, n_evaluated));
    report["runs"].push_back(std::move(run));
  }
  report["peak_rss_bytes"] = peak_rss;
  report["memory"] = account_to_json(*model, n_evaluated);
  arguments.count("json") > 0 ? print_json(report) : print_text(report);
  return {};
}

}  // namespace rwkv::edge
