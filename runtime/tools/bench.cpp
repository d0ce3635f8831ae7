// rwkv-edge bench: speed, memory and bandwidth of a model on this machine.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "formats/cli/version.h"
#include "runtime/bench/bandwidth.h"
#include "runtime/tools/bench_compare.h"
#include "runtime/tools/bench_report.h"
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

// What the stream did while `n` tokens were decoded in `seconds`, all of them on average.
Json stream_row(const StreamStats& before, const StreamStats& after, double seconds, size_t n) {
  const auto per_token = [&](double value) { return value / static_cast<double>(n); };
  const double read = static_cast<double>(after.read_bytes - before.read_bytes);
  const double read_seconds = after.read_seconds - before.read_seconds;
  return {{"seconds_per_token", per_token(seconds)},
          {"waited_per_token", per_token(after.waited_seconds - before.waited_seconds)},
          {"read_per_token", per_token(read)},
          {"read_per_second", read_seconds > 0 ? read / read_seconds : 0.0}};
}

// `has_limit`: then the memory that the bandwidth test takes would not be the model's.
Result<Json> bench_threads(const std::shared_ptr<const Model>& model, unsigned n_threads,
                           const BenchOptions& options, bool has_limit, size_t& n_evaluated) {
  BenchSubject subject(model, n_threads);
  std::optional<BandwidthProbe> probe;
  if (!has_limit) {
    probe.emplace(n_threads);
  }
  const Stream* const stream = model->weights().stream();
  if (stream) {
    RWKV_TRY(subject.decode(1));  // reads what stays in memory
    subject.take_rates();
  }
  const size_t n_before = subject.n_evaluated();
  const StreamStats before = stream ? stream->stats() : StreamStats();
  double decode_seconds = 0;
  std::vector<double> prefill;
  // Alternates with measuring the memory bandwidth.
  constexpr int64_t kTokensAtATime = 16;
  for (int64_t done = 0; done < options.n_decode; done += kTokensAtATime) {
    if (probe) {
      probe->pass();
    }
    const auto start = Clock::now();
    RWKV_TRY(
        subject.decode(static_cast<size_t>(std::min(kTokensAtATime, options.n_decode - done))));
    decode_seconds += seconds_since(start);
  }
  const size_t n_decoded = subject.n_evaluated() - n_before;
  const StreamStats after = stream ? stream->stats() : StreamStats();
  double bandwidth = 0;
  if (probe) {
    probe->pass();
    bandwidth = probe->median();
    probe.reset();  // its memory is no longer needed
  }
  for (int64_t run = 0; run < options.n_runs; ++run) {
    RWKV_TRY(subject.prefill(static_cast<size_t>(options.n_prompt), prefill));
  }
  n_evaluated += subject.n_evaluated();
  const std::vector<double> decode = subject.take_rates();
  Json row = bench_row(n_threads, spread_of(decode), decode.size(), spread_of(prefill),
                       options.n_prompt, subject.bytes_per_token());
  row["read_gb_per_s"] = bandwidth;
  row["share_of_bandwidth"] = bandwidth > 0 ? row["decode_gb_per_s"].get<double>() / bandwidth : 0;
  if (stream) {
    row["stream"] = stream_row(before, after, decode_seconds, n_decoded);
  }
  return row;
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
    return usage_error(
        "--threads: expected numbers from 1 to 256, found none; give them like 1,2,4");
  }
  for (const int32_t n : list) {
    if (n < 1 || n > 256) {
      return usage_error(
          "--threads: expected numbers from 1 to 256, found {}; give them like 1,2,4", n);
    }
  }
  return std::vector<unsigned>(list.begin(), list.end());
}

// How the stream is to be, for measurements.
Result<StreamOptions> stream_from(const cxxopts::ParseResult& arguments, StreamOptions stream) {
  RWKV_ASSIGN(stream.bytes_per_second, cli::byte_size(arguments, "read-speed", 0));
  RWKV_ASSIGN(stream.piece_bytes, cli::byte_size(arguments, "piece", 0));
  if (arguments.count("slots") > 0) {
    RWKV_ASSIGN(const int64_t slots, cli::integer(arguments, "slots", 1, 1024));
    stream.slots = static_cast<unsigned>(slots);
  }
  stream.bottom_first = arguments.count("bottom-first") > 0;
  return stream;
}

void print_text(const Json& report) {
  cli::print("model            {}\nkernels          {}\n", report["model"].get<std::string>(),
             report["kernels"].get<std::string>());
  cli::print("load             {:.1f} ms to open, {:.1f} ms to first logits\n",
             report["open_ms"].get<double>(), report["first_logits_ms"].get<double>());
  cli::print("weights          {}; at most {} touched per token, with the state\n",
             cli::human_bytes(report["weight_bytes"].get<uint64_t>()),
             cli::human_bytes(report["bytes_per_token"].get<uint64_t>()));
  cli::print("peak memory      {}\n\n", cli::human_bytes(report["peak_rss_bytes"].get<uint64_t>()));
  cli::print("{:>7} {:>10} {:>19} {:>10} {:>19} {:>9} {:>8} {:>8} {:>6}\n", "threads", "decode/s",
             "[min-max]", "prefill/s", "[min-max]", "MB/token", "GB/s", "of GB/s", "share");
  for (const Json& run : report["runs"]) {
    const auto number = [&](const char* key) { return run[key].get<double>(); };
    cli::print("{:>7} {:>10.2f} {:>19} {:>10.2f} {:>19} {:>9.1f} {:>8.2f} {:>8.2f} {:>5.0f}%\n",
               run["threads"].get<unsigned>(), number("decode_tokens_per_s"),
               fmt::format("[{:.2f}-{:.2f}]", number("decode_min"), number("decode_max")),
               number("prefill_tokens_per_s"),
               fmt::format("[{:.2f}-{:.2f}]", number("prefill_min"), number("prefill_max")),
               1e-6 * number("touched_bytes_per_token"), number("decode_gb_per_s"),
               number("read_gb_per_s"), 100 * number("share_of_bandwidth"));
  }
}

void print_json(const Json& report) {
  cli::print_json(report.dump(2, ' ', false, Json::error_handler_t::replace));
}

}  // namespace

void declare_bench(cxxopts::Options& options, std::vector<std::string>& positionals) {
  declare_model_options(options, positionals);
  declare_memory_options(options);
  options.add_options()("n", "Tokens to decode", cxxopts::value<std::string>()->default_value("32"),
                        "N")("prompt", "Tokens of the prompt",
                             cxxopts::value<std::string>()->default_value("128"), "N")(
      "runs", "Runs of the prompt", cxxopts::value<std::string>()->default_value("3"), "N")(
      "compare", "Another model, run in turn with the first; may be repeated",
      cxxopts::value<std::vector<std::string>>(), "FILE")("json", "Print JSON")(
      "read-speed", "Streamed: bytes per second of a slower storage", cxxopts::value<std::string>(),
      "SIZE")("piece", "Streamed: bytes of a piece at most", cxxopts::value<std::string>(), "SIZE")(
      "slots", "Streamed: pieces that the ring holds", cxxopts::value<std::string>(), "N")(
      "bottom-first", "Streamed: keep the first blocks in memory, not a part of each");
}

Status run_bench(const cxxopts::ParseResult& arguments) {
  BenchOptions options{};
  RWKV_ASSIGN(options.n_decode, cli::integer(arguments, "n", 1, 1 << 20));
  RWKV_ASSIGN(options.n_prompt, cli::integer(arguments, "prompt", 1, 1 << 20));
  RWKV_ASSIGN(options.n_runs, cli::integer(arguments, "runs", 1, 1000));
  RWKV_ASSIGN(const std::vector<unsigned> threads, thread_list(arguments));
  const auto start = Clock::now();
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "model"));
  RWKV_ASSIGN(MemoryOptions memory, memory_from(arguments, most_threads(threads)));
  RWKV_ASSIGN(memory.stream, stream_from(arguments, memory.stream));
  if (arguments.count("compare") > 0) {
    std::vector<std::string> paths = {path};
    const auto others = arguments["compare"].as<std::vector<std::string>>();
    paths.insert(paths.end(), others.begin(), others.end());
    RWKV_ASSIGN(const Json report, bench_in_turn(paths, memory, threads, options));
    arguments.count("json") > 0 ? print_json(report) : print_in_turn(report);
    return {};
  }
  RWKV_ASSIGN(const auto model, Model::open(path, memory));
  say_memory_choice(arguments, *model, memory);
  const double open_ms = 1e3 * seconds_since(start);
  RWKV_ASSIGN(const double first_logits_ms, [&]() -> Result<double> {
    Evaluator evaluator(model, {threads.front(), 1});
    State state = model->empty_state();
    std::vector<float> logits(model->config().n_vocab);
    const std::vector<int32_t> token = {0};
    RWKV_TRY(evaluator.forward(token, state, Logits::Last, logits));
    return 1e3 * seconds_since(start);
  }());
  // One pass, before the bandwidth test, whose buffer does not belong to the model.
  size_t n_evaluated = 1;
  {
    BenchSubject subject(model, most_threads(threads));
    std::vector<double> unused;
    RWKV_TRY(subject.prefill(static_cast<size_t>(options.n_prompt), unused));
    RWKV_TRY(subject.decode(1));
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
                 {"bytes_per_token", model->weights().whole().most_per_token +
                                         2 * model->config().state_floats() * sizeof(float)}};
  report["runs"] = Json::array();
  for (const unsigned n : threads) {
    RWKV_ASSIGN(Json run, bench_threads(model, n, options, memory.limit > 0, n_evaluated));
    report["runs"].push_back(std::move(run));
  }
  report["peak_rss_bytes"] = peak_rss;
  report["memory"] = account_to_json(model->weights(), n_evaluated);
  arguments.count("json") > 0 ? print_json(report) : print_text(report);
  return {};
}

}  // namespace rwkv::edge
