// rwkv-edge tokenize and detokenize.
#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {

void declare_tokenize(cxxopts::Options& options, std::vector<std::string>& positionals) {
  declare_model_options(options, positionals);
  options.add_options()("text,file", "Text to convert; - is standard input",
                        cxxopts::value<std::string>(), "FILE");
}

Status run_tokenize(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const auto model, model_from(arguments));
  RWKV_ASSIGN(const std::string text, text_from(arguments, "text"));
  auto ids = tokenize(*model, text);
  if (!ids.ok()) {
    return ids.status().in(arguments["text"].as<std::string>());
  }
  cli::print("{}\n", fmt::join(ids.value(), " "));
  return {};
}

void declare_detokenize(cxxopts::Options& options, std::vector<std::string>& positionals) {
  declare_model_options(options, positionals);
  options.add_options()("ids", "Token ids, separated by spaces; - is standard input",
                        cxxopts::value<std::string>(), "FILE");
}

Status run_detokenize(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const auto model, model_from(arguments));
  RWKV_ASSIGN(const std::string text, text_from(arguments, "ids"));
  // On a command line a wrong id is a usage error; in a file it is bad input.
  const auto ids = parse_ids(text);
  if (!ids.ok()) {
    return bad_input("{}: {}", arguments["ids"].as<std::string>(), ids.status().message());
  }
  if (!model->tokenizer()) {
    return usage_error("the model was packed without a vocabulary; convert it with --vocab");
  }
  RWKV_ASSIGN(const std::string bytes, decode(*model->tokenizer(), ids.value()));
  cli::print_text(bytes);
  return {};
}

}  // namespace rwkv::edge
