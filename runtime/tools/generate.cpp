// rwkv-edge generate: continues a prompt, streaming.
#include <unistd.h>

#include <chrono>

#include "formats/cli/command.h"
#include "formats/cli/option_table.h"
#include "formats/cli/print.h"
#include "runtime/text/prompt.h"
#include "runtime/text/session.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/interrupt.h"
#include "runtime/tools/prompt_progress.h"

namespace rwkv::edge {
namespace {

/// `typed` with its escapes replaced, unless they are switched off. Says which ones it left.
std::string unescaped(const cxxopts::ParseResult& arguments, const std::string& typed) {
  if (arguments.count("no-escape") > 0) {
    return typed;
  }
  std::vector<std::string> unknown;
  std::string text = replace_escapes(typed, unknown);
  if (!unknown.empty()) {
    say(arguments, fmt::format("{} stays as it was typed: no escape (--no-escape switches all off)",
                               fmt::join(unknown, " and ")));
  }
  return text;
}

bool has_prompt_file(const cxxopts::ParseResult& arguments) {
  return arguments.count("file") > 0 || arguments["prompt"].as<std::string>() == "-";
}

/// The prompt as the model is fed it: typed text with its escapes replaced, a file's text without
/// what editors add to it.
Result<std::string> prompt_from(const cxxopts::ParseResult& arguments) {
  if (has_prompt_file(arguments)) {
    const char* option = arguments.count("file") > 0 ? "file" : "prompt";
    RWKV_ASSIGN(std::string bytes, text_from(arguments, option));
    auto text = prompt_in_file(std::move(bytes));
    return text.ok() ? std::move(text) : text.status().in(arguments[option].as<std::string>());
  }
  const std::string typed = arguments["prompt"].as<std::string>();
  return arguments.count("ids") > 0 ? typed : unescaped(arguments, typed);
}

Result<std::vector<int32_t>> tokens_of(const Model& model, const std::string& prompt, bool is_ids) {
  if (is_ids) {
    RWKV_ASSIGN(std::vector<int32_t> ids, parse_ids(prompt));
    if (ids.empty()) {
      return usage_error(
          "expected a prompt of token ids, found none; give them with --ids, like 1,2,3");
    }
    return ids;
  }
  if (prompt.empty()) {
    return usage_error(
        "expected a prompt with some text, found an empty one; give it with -p or -f");
  }
  return tokenize(model, prompt);
}

/// Puts the token that ends texts in front, as RWKV's authors begin theirs.
Status put_first(const Model& model, std::vector<int32_t>& tokens) {
  const int32_t first = end_of_text_token(model);
  if (first == kNoToken) {
    return usage_error(
        "--bos: expected a vocabulary with a token that ends texts, the model has none; remove "
        "--bos, or give token ids with --ids");
  }
  tokens.insert(tokens.begin(), first);
  return {};
}

void print_speed(size_t n, double seconds) {
  if (n > 0 && ::isatty(STDERR_FILENO) != 0) {
    cli::print(stderr, "{} tokens, {:.1f} tokens/s\n", n, static_cast<double>(n) / seconds);
  }
}

/// Reads the prompt and prints what follows. False if Ctrl-C ended it.
Result<bool> continue_prompt(Session& session, std::span<const int32_t> prompt, size_t n_tokens,
                             bool is_ids, bool quiet) {
  RWKV_ASSIGN(const bool is_read, feed_with_progress(session, prompt, quiet));
  if (!is_read) {
    return false;
  }
  size_t n_done = 0;
  bool is_written = true;
  const auto start = std::chrono::steady_clock::now();
  const auto on_piece = [&](const Piece& piece) {
    if (is_ids && piece.token != kNoToken) {
      cli::print("{}{}", n_done == 0 ? "" : " ", piece.token);
    } else if (!is_ids) {
      cli::print_text(piece.text);
    }
    n_done += piece.token != kNoToken ? 1 : 0;
    is_written = std::fflush(stdout) == 0;
    return is_written && !CatchInterrupts::requested();
  };
  RWKV_TRY(session.generate(n_tokens, on_piece).status());
  if (!is_written) {
    return failed("cannot write the text to stdout");
  }
  cli::print("\n");
  std::fflush(stdout);
  if (!quiet) {
    print_speed(n_done,
                std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return !CatchInterrupts::requested();
}

}  // namespace

void declare_generate(cxxopts::Options& options, std::vector<std::string>& positionals) {
  declare_model_options(options, positionals);
  declare_memory_options(options);
  declare_save_state_option(options);
  options.add_options()("p,prompt", "Text to continue; - reads standard input",
                        cxxopts::value<std::string>(), cli::kTextArgument)(
      "f,file,prompt-file", "Read the prompt from a file; - is standard input",
      cxxopts::value<std::string>(), "FILE")("n,n-predict,predict", "Number of tokens to generate",
                                             cxxopts::value<std::string>()->default_value("128"),
                                             "N");
  declare_sampling_options(options, default_sampling());
  options.add_options()("r,stop,reverse-prompt", "End before this text; may be repeated",
                        cxxopts::value<std::vector<std::string>>(),
                        cli::kTextArgument)("no-escape",
                                            "Take backslashes in --prompt and --stop as they are; "
                                            "otherwise \\n is a new line, \\t a tab, "
                                            "\\\\ a backslash, \\xHH a byte, \\uHHHH a character")(
      "bos", "Begin with the token that ends texts (id 0 of World), as RWKV's authors do")(
      "ids", "Prompt and output are token ids")(
      "stats", "Print memory use (on stderr): resident, cached, read from storage")(
      "c,ctx-size",
      "Understood and ignored: the memory of these models does not grow with the text",
      cxxopts::value<std::string>(), "N");
}

Status run_generate(const cxxopts::ParseResult& arguments) {
  const bool is_ids = arguments.count("ids") > 0;
  // After a saved state, its text goes on without a prompt.
  const size_t n_prompts = arguments.count("prompt") + arguments.count("file");
  if (n_prompts > 1 || (n_prompts == 0 && arguments.count("state") == 0)) {
    return usage_error("expected either --prompt or --file; see --help");
  }
  RWKV_ASSIGN(const std::string prompt,
              n_prompts == 0 ? Result<std::string>(std::string()) : prompt_from(arguments));
  SessionOptions options;
  RWKV_ASSIGN(options.sampler, sampler_from(arguments));
  RWKV_ASSIGN(options.n_threads, threads_from(arguments));
  RWKV_ASSIGN(const int64_t n_tokens, cli::integer(arguments, "n", 0, INT32_MAX));
  if (arguments.count("stop") > 0) {
    for (const std::string& stop : arguments["stop"].as<std::vector<std::string>>()) {
      options.stop_strings.push_back(unescaped(arguments, stop));
    }
  }
  RWKV_TRY(check_save_state(arguments));
  RWKV_ASSIGN(const auto model, model_from(arguments));
  RWKV_ASSIGN(auto tokens, n_prompts == 0 ? Result<std::vector<int32_t>>(std::vector<int32_t>())
                                          : tokens_of(*model, prompt, is_ids));
  if (arguments.count("bos") > 0) {
    RWKV_TRY(put_first(*model, tokens));
  }
  RWKV_ASSIGN(const auto session, Session::create(model, options));
  if (!is_ids && !model->tokenizer()) {
    return usage_error(
        "the model was packed without a vocabulary; use token ids (--ids), or convert it with "
        "--vocab");
  }
  if (!is_ids && ends_in_blank(prompt)) {
    say(arguments, "the prompt ends in a blank, after which models rarely continue well");
  }
  say_decisions(arguments, *model, options.n_threads, {seed_note(options.sampler)});
  const CatchInterrupts interrupts(true);
  RWKV_ASSIGN(const bool is_whole, continue_prompt(*session, tokens, static_cast<size_t>(n_tokens),
                                                   is_ids, arguments.count("quiet") > 0));
  RWKV_TRY(save_state_to(arguments, *session));
  if (arguments.count("stats") > 0) {
    print_account(model->weights(), session->n_evaluated());
  }
  if (!is_whole) {
    CatchInterrupts::end_program();
  }
  return {};
}

}  // namespace rwkv::edge
