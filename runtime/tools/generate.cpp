// rwkv-edge generate: continues a prompt, streaming.
#include <unistd.h>

#include <chrono>

#include "formats/cli/command.h"
#include "runtime/text/session.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {
namespace {

constexpr double kMaxPenalty = 100.0;

Result<SamplerOptions> sampler_from(const cxxopts::ParseResult& arguments) {
  SamplerOptions sampler;
  struct Real {
    const char* name;
    float& to;
    double low, high;
  };
  const Real reals[] = {{"temp", sampler.temperature, 0.0, kMaxPenalty},
                        {"top-p", sampler.top_p, 0.0, 1.0},
                        {"presence", sampler.presence_penalty, -kMaxPenalty, kMaxPenalty},
                        {"frequency", sampler.frequency_penalty, -kMaxPenalty, kMaxPenalty},
                        {"penalty-decay", sampler.penalty_decay, 0.0, 1.0}};
  for (const Real& option : reals) {
    RWKV_ASSIGN(const double value, cli::real(arguments, option.name, option.low, option.high));
    option.to = static_cast<float>(value);
  }
  RWKV_ASSIGN(const int64_t top_k, cli::integer(arguments, "top-k", 0, INT32_MAX));
  RWKV_ASSIGN(const int64_t seed, cli::integer(arguments, "seed", 0, INT64_MAX));
  sampler.top_k = static_cast<int>(top_k);
  sampler.seed = static_cast<uint64_t>(seed);
  return sampler;
}

Status feed_prompt(Session& session, const std::string& prompt, bool is_ids) {
  if (!is_ids) {
    if (prompt.empty()) {
      return usage_error("expected a prompt with some text, found an empty one");
    }
    return session.feed_text(prompt);
  }
  RWKV_ASSIGN(const std::vector<int32_t> ids, parse_ids(prompt));
  if (ids.empty()) {
    return usage_error("the prompt has no token ids");
  }
  return session.feed_tokens(ids);
}

void print_speed(size_t n, double seconds) {
  if (n > 0 && ::isatty(STDERR_FILENO) != 0) {
    fmt::print(stderr, "{} tokens, {:.1f} tokens/s\n", n, static_cast<double>(n) / seconds);
  }
}

}  // namespace

void declare_generate(cxxopts::Options& options, std::vector<std::string>& positionals) {
  declare_model_options(options, positionals);
  declare_memory_options(options);
  declare_save_state_option(options);
  constexpr SamplerOptions kSampling = default_sampling();
  const auto with_default = [](auto value) {
    return cxxopts::value<std::string>()->default_value(fmt::format("{}", value));
  };
  options.add_options()("p,prompt", "Text to continue", cxxopts::value<std::string>())(
      "f,file", "Read the prompt from a file", cxxopts::value<std::string>())(
      "n", "Number of tokens to generate", cxxopts::value<std::string>()->default_value("128"))(
      "temp", "Temperature; 0 always takes the most likely token",
      with_default(kSampling.temperature))(
      "top-p", "Keep the most likely tokens that add up to this probability; 1 keeps all",
      with_default(kSampling.top_p))("top-k", "Keep only the K most likely tokens; 0 keeps all",
                                     with_default(kSampling.top_k))(
      "presence", "Penalty for tokens that have occurred",
      with_default(kSampling.presence_penalty))("frequency", "Penalty for each occurrence",
                                                with_default(kSampling.frequency_penalty))(
      "penalty-decay", "Factor by which counts of occurrences shrink at each token",
      with_default(kSampling.penalty_decay))(
      "seed", "Random seed; the same seed gives the same text", with_default(kSampling.seed))(
      "stop", "End before this text; may be repeated", cxxopts::value<std::vector<std::string>>())(
      "ids", "Prompt and output are token ids")(
      "stats", "Print memory use (on stderr): resident, cached, read from storage");
}

Status run_generate(const cxxopts::ParseResult& arguments) {
  const bool is_ids = arguments.count("ids") > 0;
  // After a saved state, its text goes on without a prompt.
  const size_t n_prompts = arguments.count("prompt") + arguments.count("file");
  if (n_prompts > 1 || (n_prompts == 0 && arguments.count("state") == 0)) {
    return usage_error("expected either --prompt or --file; see --help");
  }
  RWKV_ASSIGN(const std::string prompt,
              n_prompts == 0 ? Result<std::string>(std::string())
              : arguments.count("file") > 0
                  ? text_from(arguments, "file")
                  : Result<std::string>(arguments["prompt"].as<std::string>()));
  SessionOptions options;
  RWKV_ASSIGN(options.sampler, sampler_from(arguments));
  RWKV_ASSIGN(options.n_threads, threads_from(arguments));
  RWKV_ASSIGN(const int64_t n_tokens, cli::integer(arguments, "n", 0, INT32_MAX));
  if (arguments.count("stop") > 0) {
    options.stop_strings = arguments["stop"].as<std::vector<std::string>>();
  }
  RWKV_ASSIGN(const auto model, model_from(arguments));
  if (!is_ids && !model->tokenizer()) {
    return usage_error(
        "the model was packed without a vocabulary; use token ids (--ids), or convert it with "
        "--vocab");
  }
  RWKV_ASSIGN(const auto session, Session::create(model, options));
  if (n_prompts > 0) {
    RWKV_TRY(feed_prompt(*session, prompt, is_ids));
  }
  size_t n_done = 0;
  bool is_written = true;
  const auto start = std::chrono::steady_clock::now();
  const auto on_piece = [&](const Piece& piece) {
    if (is_ids && piece.token != kNoToken) {
      fmt::print("{}{}", n_done == 0 ? "" : " ", piece.token);
    } else if (!is_ids) {
      std::fwrite(piece.text.data(), 1, piece.text.size(), stdout);
    }
    n_done += piece.token != kNoToken ? 1 : 0;
    is_written = std::fflush(stdout) == 0;
    return is_written;
  };
  RWKV_ASSIGN(const StopReason reason, session->generate(static_cast<size_t>(n_tokens), on_piece));
  if (!is_written || reason == StopReason::Cancelled) {
    return failed("cannot write the text to stdout");
  }
  fmt::print("\n");
  RWKV_TRY(save_state_to(arguments, *session));
  print_speed(n_done,
              std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  if (arguments.count("stats") > 0) {
    print_account(model->weights(), session->n_evaluated());
  }
  return {};
}

}  // namespace rwkv::edge
