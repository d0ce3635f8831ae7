#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iterator>

#include "formats/base/printable.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "formats/container/file_kind.h"
#include "formats/tokenizer/escape.h"
#include "runtime/kernels/kernels.h"
#include "runtime/memory/modes.h"
#include "runtime/threads/thread_pool.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {
namespace fs = std::filesystem;

namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 32;
constexpr int64_t kMaxThreads = 256;

/// `path` as one word of a shell.
std::string shell_word(const std::string& path) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+/=:@%";
  if (path.find_first_not_of(kPlain) == std::string::npos) {
    return path;
  }
  std::string word = "'";
  for (const char c : path) {
    word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return word + "'";
}

/// What people try first is the checkpoint that they have: the command that converts it. Whatever
/// else the file is, opening it says.
Status check_is_packed(const std::string& path) {
  std::error_code error;
  const bool is_folder = fs::is_directory(path, error);
  RWKV_ASSIGN(const FileKind kind,
              is_folder ? Result<FileKind>(FileKind{"a directory", "", true}) : file_kind(path));
  if (!kind.is_checkpoint || kind.found == kGgufKind) {
    return {};
  }
  fs::path name = fs::path(path).filename();
  name = (name.empty() || name == "." || name == "..") ? fs::path("model") : name;
  const std::string output = is_folder ? name.string() + ".gguf" : name.stem().string() + ".gguf";
  return bad_input(
      "{}: expected a packed model, found {}; convert it first: rwkv-press convert {} -o {}", path,
      kind.found, shell_word(path), shell_word(output));
}

}  // namespace

void declare_model_options(cxxopts::Options& options, std::vector<std::string>& positionals) {
  options.add_options()("m,model", "Packed model", cxxopts::value<std::string>(), "FILE")(
      "t,threads", "Threads (default: all available processors)", cxxopts::value<std::string>(),
      "N")("q,quiet", "Say nothing on stderr but errors");
  declare_state_option(options);
  positionals = {"model"};
}

Result<std::shared_ptr<const Model>> model_from(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "model"));
  RWKV_TRY(check_is_packed(path));
  RWKV_ASSIGN(const unsigned n_threads, threads_from(arguments));
  RWKV_ASSIGN(const MemoryOptions memory, memory_from(arguments, n_threads));
  RWKV_ASSIGN(const std::string state, state_path_from(arguments));
  RWKV_ASSIGN(auto model, Model::open(path, memory, state));
  say_memory_choice(arguments, *model, memory);
  return model;
}

void say(const cxxopts::ParseResult& arguments, const std::string& note) {
  if (arguments.count("quiet") == 0) {
    cli::print(stderr, "rwkv-edge: {}\n", printable(note));
  }
}

void say_decisions(const cxxopts::ParseResult& arguments, const Model& model, unsigned n_threads,
                   const std::vector<std::string>& more) {
  std::vector<std::string> parts;
  if (kernels().ok()) {
    parts.push_back(fmt::format("kernels {}", kernels().value()->name));
  }
  parts.push_back(fmt::format("{} thread{}", n_threads, n_threads == 1 ? "" : "s"));
  parts.push_back(fmt::format("memory {}", mode_traits(model.weights().residency().mode).name));
  const Tokenizer* tokenizer = model.tokenizer();
  parts.push_back(tokenizer
                      ? fmt::format("vocabulary {} with {} tokens",
                                    tokenizer_kind_name(tokenizer->kind()), tokenizer->n_vocab())
                      : "no vocabulary");
  std::copy_if(more.begin(), more.end(), std::back_inserter(parts),
               [](const std::string& part) { return !part.empty(); });
  say(arguments, fmt::format("{}", fmt::join(parts, ", ")));
}

Result<unsigned> threads_from(const cxxopts::ParseResult& arguments) {
  if (arguments.count("threads") == 0) {
    return available_threads();
  }
  RWKV_ASSIGN(const int64_t n, cli::integer(arguments, "threads", 1, kMaxThreads));
  return static_cast<unsigned>(n);
}

Result<std::string> bytes_from(const cxxopts::ParseResult& arguments, const std::string& option) {
  RWKV_ASSIGN(const std::string path, cli::required(arguments, option));
  return read_text_file(path, kMaxTextBytes);
}

Result<std::string> text_from(const cxxopts::ParseResult& arguments, const std::string& option) {
  RWKV_ASSIGN(const std::string path, cli::required(arguments, option));
  RWKV_TRY(check_plain_text(path));
  return bytes_from(arguments, option);
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
      return usage_error("expected a list of token ids, found '{}'; give them like 1,2,3",
                         escape_token(text.substr(0, 60)));
    }
    ids.push_back(id);
    at = next;
  }
}

}  // namespace rwkv::edge
