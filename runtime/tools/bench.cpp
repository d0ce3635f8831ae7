// rwkv-edge bench: speed, memory and bandwidth of a model on this machine.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "formats/cli/command.h"
#include "formats/cli/version.h"
#include "runtime/tools/bandwidth.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Spread {
  double median, min, max;
};
Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values.front(), values.back()};
}

uint64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

constexpr size_t kWarmUp = 4;  // tokens

struct BenchOptions {
  int64_t n_decode;
  int64_t n_prompt;
  int64_t n_runs;
};

// A fixed pseudo-random prompt, so that runs compare.
std::vector<int32_t> make_tokens(size_t n, uint64_t n_vocab) {
  std::vector<int32_t> tokens(n);
  uint64_t x = 1;
  for (int32_t& token : tokens) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    token = static_cast<int32_t>((x >> 33) % n_vocab);
  }
  return tokens;
}

Result<Json> bench_threads(const std::shared_ptr<const Model>& model, unsigned n_threads,
                           const BenchOptions& options) {
  Evaluator evaluator(model, {n_threads, 32});
  State state = model->empty_state();
  const uint64_t n_vocab = model->config().n_vocab;
  std::vector<float> logits(n_vocab);
  const auto n_decode = static_cast<size_t>(options.n_decode);
  const std::vector<int32_t> tokens = make_tokens(kWarmUp + n_decode, n_vocab);
  std::vector<double> decode;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto start = Clock::now();
    RWKV_TRY(evaluator.forward(std::span(tokens).subspan(i, 1), state, Logits::Last, logits));
    if (i >= kWarmUp) {
      decode.push_back(1.0 / seconds_since(start));
    }
  }
  // Weights, rows on demand as they were asked for, and the state read and written.
  const uint64_t bytes = model->weights().always_touched_bytes() +
                         evaluator.touched_bytes() / tokens.size() +
                         2 * model->config().state_floats() * sizeof(float);
  std::vector<double> prefill;
  const auto prompt = make_tokens(static_cast<size_t>(options.n_prompt), n_vocab);
  for (int64_t run = 0; run < options.n_runs; ++run) {
    state.reset();
    const auto start = Clock::now();
    RWKV_TRY(evaluator.forward(prompt, state, Logits::Last, logits));
    prefill.push_back(static_cast<double>(prompt.size()) / seconds_since(start));
  }
  const Spread d = spread_of(decode);
  const Spread p = spread_of(prefill);
  return Json{{"threads", n_threads},
              {"decode_tokens_per_s", d.median},
              {"decode_min", d.min},
              {"decode_max", d.max},
              {"decode_n", decode.size()},
              {"prefill_tokens_per_s", p.median},
              {"prefill_min", p.min},
              {"prefill_max", p.max},
              {"prefill_tokens", prompt.size()},
              {"touched_bytes_per_token", bytes},
              {"decode_gb_per_s", d.median * static_cast<double>(bytes) * 1e-9}};
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
  fmt::print("weights          {}, {} touched per token with the state\n",
             cli::human_bytes(report["weight_bytes"].get<uint64_t>()),
             cli::human_bytes(report["bytes_per_token"].get<uint64_t>()));
  fmt::print("peak memory      {}\n\n", cli::human_bytes(report["peak_rss_bytes"].get<uint64_t>()));
  fmt::print("{:>7} {:>10} {:>19} {:>10} {:>19} {:>8} {:>8} {:>6}\n", "threads", "decode/s",
             "[min-max]", "prefill/s", "[min-max]", "GB/s", "of GB/s", "share");
  for (const Json& run : report["runs"]) {
    const auto number = [&](const char* key) { return run[key].get<double>(); };
    fmt::print("{:>7} {:>10.2f} {:>19} {:>10.2f} {:>19} {:>8.2f} {:>8.2f} {:>5.0f}%\n",
               run["threads"].get<unsigned>(), number("decode_tokens_per_s"),
               fmt::format("[{:.2f}-{:.2f}]", number("decode_min"), number("decode_max")),
               number("prefill_tokens_per_s"),
               fmt::format("[{:.2f}-{:.2f}]", number("prefill_min"), number("prefill_max")),
               number("decode_gb_per_s"), number("read_gb_per_s"),
               100 * number("share_of_bandwidth"));
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
      "json", "Print JSON");
}

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
  const double open_ms = 1e3 * seconds_since(start);
  {
    Evaluator evaluator(model, {threads.front(), 1});
    State state = model->empty_state();
    std::vector<float> logits(model->config().n_vocab);
    const std::vector<int32_t> token = {0};
    RWKV_TRY(evaluator.forward(token, state, Logits::Last, logits));
  }
  Json report = {{"model", describe(model->config())},
                 {"file", arguments["model"].as<std::string>()},
                 {"version", cli::kVersion},
                 {"compiler", cli::kCompiler},
                 {"kernels", kernels().value()->name},
                 {"open_ms", open_ms},
                 {"first_logits_ms", 1e3 * seconds_since(start)},
                 {"weight_bytes", model->weights().total_bytes()},
                 {"bytes_per_token", model->weights().bytes_per_token() +
                                         2 * model->config().state_floats() * sizeof(float)}};
  report["runs"] = Json::array();
  size_t n_evaluated = 1;
  for (const unsigned n : threads) {
    n_evaluated += kWarmUp + static_cast<size_t>(options.n_decode) +
                   static_cast<size_t>(options.n_prompt * options.n_runs);
    RWKV_ASSIGN(Json run, bench_threads(model, n, options));
    report["runs"].push_back(std::move(run));
  }
  // Before the bandwidth test, whose buffer is not the model's.
  report["peak_rss_bytes"] = peak_rss_bytes();
  report["memory"] = account_to_json(*model, n_evaluated);
  for (Json& run : report["runs"]) {
    const double bandwidth = read_bandwidth(run["threads"].get<unsigned>());
    run["read_gb_per_s"] = bandwidth;
    run["share_of_bandwidth"] = run["decode_gb_per_s"].get<double>() / bandwidth;
  }
  if (arguments.count("json") > 0) {
    fmt::print("{}\n", report.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    print_text(report);
  }
  return {};
}

}  // namespace rwkv::edge
