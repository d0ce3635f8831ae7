// Streamed weights from a cold start, and planned again in the middle of a text, token by token.
//   usage: bench_stream cold MODEL TOKENS MBPS COMPUTE_MS FIRST_MS... [THREADS=N LIMIT=BYTES]
//          bench_stream again MODEL TOKENS MBPS LIMIT NEW_LIMIT [THREADS=N]
// MBPS is the speed of the storage: the reader keeps to it with "b" behind it, else it only informs
// the plan, for a storage that is as slow. TOKENS is a number, or a file of int32 ids. The file's
// pages should be dropped from the page cache before. `cold` prints for every FIRST_MS when each
// token came, how many pieces were still narrow, and KL(full || here); FIRST_MS 0 loads everything
// before the first token, as --memory loaded does. `again` prints what the first token after the
// change took, and how many tokens differ from those of a model that was opened within NEW_LIMIT.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "formats/base/file.h"
#include "runtime/model/evaluator.h"

namespace {

using namespace rwkv;
using namespace rwkv::edge;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

[[noreturn]] void end_with(const std::string& message) {
  std::fprintf(stderr, "bench_stream: error: %s\n", message.c_str());
  std::exit(1);
}

template <typename T>
T need(Result<T> result) {
  if (!result.ok()) {
    end_with(result.status().message());
  }
  return result.take();
}

void need(const Status& status) {
  if (!status.ok()) {
    end_with(status.message());
  }
}

struct Job {
  std::string model;
  std::vector<int32_t> tokens;
  MemoryOptions memory;
  unsigned n_threads = 2;
};

std::vector<int32_t> tokens_from(const std::string& argument, size_t n_vocab) {
  char* end = nullptr;
  const auto n = std::strtoull(argument.c_str(), &end, 10);
  std::vector<int32_t> tokens;
  if (*end == '\0') {
    for (uint64_t i = 0; i < n; ++i) {
      tokens.push_back(static_cast<int32_t>((1 + i * 7919) % n_vocab));
    }
    return tokens;
  }
  const std::string bytes = need(read_text_file(argument, uint64_t{64} << 20));
  tokens.resize(bytes.size() / sizeof(int32_t));
  std::memcpy(tokens.data(), bytes.data(), tokens.size() * sizeof(int32_t));
  return tokens;
}

// A model at work on the tokens of a job.
class Run {
 public:
  Run(const Job& job, const MemoryOptions& memory)
      : start_(Clock::now()),
        model_(need(Model::open(job.model, memory))),
        evaluator_(model_, {job.n_threads, 1}),
        state_(model_->empty_state()) {}

  std::vector<float> next(int32_t token) {
    std::vector<float> logits(model_->config().n_vocab);
    need(evaluator_.forward({&token, 1}, state_, Logits::Last, logits));
    return logits;
  }
  const Model& model() const { return *model_; }
  double seconds() const { return seconds_since(start_); }

 private:
  Clock::time_point start_;
  std::shared_ptr<const Model> model_;
  Evaluator evaluator_;
  State state_;
};

// KL(p || q) of two rows of logits, in nats.
double divergence(const std::vector<float>& p, const std::vector<float>& q) {
  const auto log_sum = [](const std::vector<float>& logits) {
    const double most = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float logit : logits) {
      sum += std::exp(static_cast<double>(logit) - most);
    }
    return most + std::log(sum);
  };
  const double of_p = log_sum(p);
  const double of_q = log_sum(q);
  double total = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double log_p = static_cast<double>(p[i]) - of_p;
    total += std::exp(log_p) * (log_p - static_cast<double>(q[i]) + of_q);
  }
  return total;
}

std::vector<std::vector<float>> logits_of_full(const Job& job) {
  MemoryOptions full;
  full.mode = MemoryMode::Full;
  Run run(job, full);
  std::vector<std::vector<float>> logits;
  for (const int32_t token : job.tokens) {
    logits.push_back(run.next(token));
  }
  return logits;
}

void drop_cache(const std::string& path) {
  const auto file = need(InputFile::open(path));
  file->forget(0, file->size());
}

void cold(Job job, const std::vector<double>& first_ms) {
  const auto full = logits_of_full(job);
  for (const double ms : first_ms) {
    drop_cache(job.model);
    MemoryOptions memory = job.memory;
    if (ms > 0) {
      memory.mode = MemoryMode::Streamed;
      memory.stream.first_token_seconds = 1e-3 * ms;
    } else {
      memory.mode = MemoryMode::Loaded;
      memory.stream = {};
    }
    Run run(job, memory);
    const Widths widths = run.model().weights().residency().widths;
    std::printf("first token in %.0f ms: %.1f MB of %.1f MB at first\n", ms,
                1e-6 * static_cast<double>(ms > 0 ? widths.early_bytes : widths.bytes),
                1e-6 * static_cast<double>(widths.full_bytes));
    std::printf("%6s %10s %8s %10s\n", "token", "ms", "narrow", "KL");
    for (size_t i = 0; i < job.tokens.size(); ++i) {
      const std::vector<float> logits = run.next(job.tokens[i]);
      const double now = run.seconds();
      const Stream* const stream = run.model().weights().stream();
      std::printf("%6zu %10.1f %8zu %10.6f\n", i + 1, 1e3 * now,
                  stream ? stream->stats().n_to_raise : 0, divergence(full[i], logits));
    }
    std::fflush(stdout);
  }
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

void again(const Job& job, uint64_t new_limit) {
  MemoryOptions from_start = job.memory;
  from_start.limit = new_limit;
  std::vector<std::vector<float>> expected;
  {
    Run run(job, from_start);
    for (const int32_t token : job.tokens) {
      expected.push_back(run.next(token));
    }
  }
  drop_cache(job.model);
  Run run(job, job.memory);
  std::vector<double> before, after;
  double planning = 0;
  size_t n_wrong = 0;
  const size_t half = job.tokens.size() / 2;
  for (size_t i = 0; i < job.tokens.size(); ++i) {
    const auto start = Clock::now();
    if (i == half) {
      need(run.model().plan_again({.limit = new_limit}));
      planning = seconds_since(start);
    }
    n_wrong += run.next(job.tokens[i]) == expected[i] ? 0 : 1;
    (i < half ? before : after).push_back(seconds_since(start));
  }
  const double first = after.front();
  std::printf(
      "within %.0f MB %.1f ms a token; planning again %.1f ms; the first token within %.0f MB %.1f "
      "ms "
      "with it, later ones %.1f ms; %zu of %zu tokens differ\n",
      1e-6 * static_cast<double>(job.memory.limit), 1e3 * median(before), 1e3 * planning,
      1e-6 * static_cast<double>(new_limit), 1e3 * first, 1e3 * median(after), n_wrong,
      job.tokens.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7) {
    std::fprintf(stderr,
                 "usage: bench_stream cold MODEL TOKENS MBPS COMPUTE_MS FIRST_MS... [THREADS=N "
                 "LIMIT=BYTES]\n"
                 "       bench_stream again MODEL TOKENS MBPS LIMIT NEW_LIMIT [THREADS=N]\n");
    return 2;
  }
  Job job;
  job.model = argv[2];
  std::vector<double> numbers;
  for (int i = 5; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.starts_with("THREADS=")) {
      job.n_threads = static_cast<unsigned>(std::atoi(argument.c_str() + 8));
    } else if (argument.starts_with("LIMIT=")) {
      job.memory.limit = std::strtoull(argument.c_str() + 6, nullptr, 10);
    } else {
      numbers.push_back(std::atof(argument.c_str()));
    }
  }
  MemoryOptions full;
  full.mode = MemoryMode::Full;
  job.tokens = tokens_from(argv[3], need(Model::open(job.model, full))->config().n_vocab);
  const std::string speed = argv[4];
  const double bytes_per_second = 1e6 * std::atof(speed.c_str());
  job.memory.mode = MemoryMode::Streamed;
  job.memory.max_chunk = 1;
  job.memory.n_threads = job.n_threads;
  job.memory.stream.bytes_per_second =
      speed.ends_with("b") ? static_cast<uint64_t>(bytes_per_second) : 0;
  if (std::strcmp(argv[1], "cold") == 0) {
    job.memory.stream.device = {bytes_per_second, 1e-3 * numbers[0], job.n_threads, {}};
    cold(job, {numbers.begin() + 1, numbers.end()});
  } else {
    job.memory.limit = static_cast<uint64_t>(numbers[0]);
    again(job, static_cast<uint64_t>(numbers[1]));
  }
  return 0;
}
