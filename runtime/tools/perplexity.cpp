// rwkv-edge perplexity.
#include <nlohmann/json.hpp>

#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "formats/cli/progress.h"
#include "runtime/text/scoring.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {

void declare_perplexity(cxxopts::Options& options, std::vector<std::string>& positionals) {
  declare_model_options(options, positionals);
  declare_memory_options(options);
  options.add_options()("text,file", "Text to score; - is standard input",
                        cxxopts::value<std::string>(),
                        "FILE")("max-tokens", "Score only the first N tokens of the text",
                                cxxopts::value<std::string>(), "N")("json", "Print JSON");
}

Status run_perplexity(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const auto model, model_from(arguments));
  RWKV_ASSIGN(const unsigned n_threads, threads_from(arguments));
  RWKV_ASSIGN(const std::string text, text_from(arguments, "text"));
  RWKV_ASSIGN(std::vector<int32_t> tokens, tokenize(*model, text));
  if (arguments.count("max-tokens") > 0) {
    RWKV_ASSIGN(const int64_t n, cli::integer(arguments, "max-tokens", 2, INT64_MAX));
    tokens.resize(std::min(tokens.size(), static_cast<size_t>(n)));
  }
  say_decisions(arguments, *model, n_threads);
  Evaluator evaluator(model, {n_threads, 32});
  cli::Progress progress("scoring", tokens.size(), arguments.count("quiet") > 0);
  const auto n_bytes = [&](int32_t token) {
    return static_cast<uint64_t>(model->tokenizer()->token_bytes(token).size());
  };
  auto score =
      score_tokens(evaluator, tokens, n_bytes, [&](uint64_t done) { progress.update(done); });
  if (!score.ok()) {
    return score.status().in(arguments["text"].as<std::string>());
  }
  const Score& s = score.value();
  if (arguments.count("json") > 0) {
    const nlohmann::ordered_json report = {{"tokens", s.n_tokens},
                                           {"bytes", s.n_bytes},
                                           {"nats_per_token", s.nats_per_token()},
                                           {"standard_error", s.standard_error()},
                                           {"perplexity", s.perplexity()},
                                           {"bits_per_byte", s.bits_per_byte()},
                                           {"top1_accuracy", s.top1_accuracy()}};
    cli::print_json(report.dump(2));
    return {};
  }
  cli::print("tokens          {}\nbytes           {}\n", s.n_tokens, s.n_bytes);
  cli::print("nats per token  {:.4f} +- {:.4f}\nperplexity      {:.3f}\n", s.nats_per_token(),
             s.standard_error(), s.perplexity());
  cli::print("bits per byte   {:.4f}\ntop-1 accuracy  {:.4f}\n", s.bits_per_byte(),
             s.top1_accuracy());
  return {};
}

}  // namespace rwkv::edge
