// rwkv-edge logits: raw logits, to compare engines.
#include <array>
#include <cstring>

#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {

void declare_logits(cxxopts::Options& options, std::vector<std::string>& positionals) {
  declare_model_options(options, positionals);
  declare_memory_options(options);
  options.add_options()("tokens", "File of token ids, little-endian int32",
                        cxxopts::value<std::string>(), "FILE")(
      "o,output", "Logits after every token, [tokens][n_vocab] little-endian float32",
      cxxopts::value<std::string>(),
      "FILE")("sequence", "Evaluate many tokens per pass instead of one by one")(
      "force", "Replace an existing output");
}

namespace {

Result<std::vector<int32_t>> read_tokens(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string bytes, bytes_from(arguments, "tokens"));
  if (bytes.empty() || bytes.size() % sizeof(int32_t) != 0) {
    return bad_input(
        "{}: expected int32 token ids, so a multiple of 4 bytes, found {} bytes; write four bytes "
        "for each id",
        arguments["tokens"].as<std::string>(), bytes.size());
  }
  std::vector<int32_t> tokens(bytes.size() / sizeof(int32_t));
  std::memcpy(tokens.data(), bytes.data(), bytes.size());
  return tokens;
}

}  // namespace

Status run_logits(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string output, cli::required(arguments, "output"));
  constexpr std::array kInputs = {"model", "tokens", "state"};
  RWKV_TRY(cli::refuse_own_input(arguments, output, kInputs));
  RWKV_ASSIGN(const auto file, OutputFile::create(output, arguments.count("force") > 0
                                                              ? OutputFile::Existing::Replace
                                                              : OutputFile::Existing::Refuse));
  RWKV_ASSIGN(const auto model, model_from(arguments));
  RWKV_ASSIGN(const unsigned n_threads, threads_from(arguments));
  RWKV_ASSIGN(const std::vector<int32_t> tokens, read_tokens(arguments));
  const size_t step = arguments.count("sequence") > 0 ? 32 : 1;
  Evaluator evaluator(model, {n_threads, step});
  State state = model->empty_state();
  std::vector<float> logits(step * model->config().n_vocab);
  for (size_t begin = 0; begin < tokens.size(); begin += step) {
    const size_t n = std::min(step, tokens.size() - begin);
    const auto here = std::span(logits).first(n * model->config().n_vocab);
    RWKV_TRY(evaluator.forward(std::span(tokens).subspan(begin, n), state, Logits::All, here));
    RWKV_TRY(file->write(std::as_bytes(here)));
  }
  RWKV_TRY(file->commit());
  cli::print("{}: {} x {} logits\n", output, tokens.size(), model->config().n_vocab);
  return {};
}

}  // namespace rwkv::edge
