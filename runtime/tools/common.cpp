#include <charconv>

#include "formats/cli/command.h"
#include "formats/tokenizer/escape.h"
#include "runtime/threads/thread_pool.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 32;
constexpr int64_t kMaxThreads = 256;

}  // namespace

void declare_model_options(cxxopts::Options& options, std::vector<std::string>& positionals) {
  options.add_options()("model", "Packed model", cxxopts::value<std::string>())(
      "t,threads", "Threads (default: all available processors)", cxxopts::value<std::string>());
  declare_state_option(options);
  positionals = {"model"};
}

Result<std::shared_ptr<const Model>> model_from(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "model"));
  RWKV_ASSIGN(const unsigned n_threads, threads_from(arguments));
  RWKV_ASSIGN(const MemoryOptions memory, memory_from(arguments, n_threads));
  RWKV_ASSIGN(const std::string state, state_path_from(arguments));
  return Model::open(path, memory, state);
}

Result<unsigned> threads_from(const cxxopts::ParseResult& arguments) {
  if (arguments.count("threads") == 0) {
    return available_threads();
  }
  RWKV_ASSIGN(const int64_t n, cli::integer(arguments, "threads", 1, kMaxThreads));
  return static_cast<unsigned>(n);
}

Result<std::string> text_from(const cxxopts::ParseResult& arguments, const std::string& option) {
  RWKV_ASSIGN(const std::string path, cli::required(arguments, option));
  return read_text_file(path, kMaxTextBytes);
}

Result<std::vector<int32_t>> tokenize(const Model& model, const std::string& text) {
  if (!model.tokenizer()) {
    return usage_error(
        "the model was packed without a vocabulary; use token ids (--ids), or convert it with "
        "--vocab");
  }
  std::vector<int32_t> ids;
  RWKV_TRY(model.tokenizer()->encode(text, ids));
  return ids;
}

Result<std::vector<int32_t>> parse_ids(const std::string& text) {
  std::vector<int32_t> ids;
  const char* at = text.data();
  const char* end = at + text.size();
  while (true) {
    while (at != end && (*at == ' ' || *at == ',' || *at == '\n' || *at == '\r' || *at == '\t')) {
      ++at;
    }
    if (at == end) {
      return ids;
    }
    int32_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || id < 0) {
      return usage_error("expected a list of token ids, found '{}'",
                         escape_token(text.substr(0, 60)));
    }
    ids.push_back(id);
    at = next;
  }
}

}  // namespace rwkv::edge
