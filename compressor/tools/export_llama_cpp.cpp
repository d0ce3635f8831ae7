// rwkv-press export --to llama.cpp: a checkpoint or a packed file as a GGUF that llama.cpp runs.
#include <algorithm>
#include <filesystem>

#include "compressor/checkpoint/checkpoint_files.h"
#include "compressor/llama_cpp/export.h"
#include "compressor/tools/commands.h"
#include "formats/base/printable.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "formats/cli/progress.h"
#include "formats/container/gguf_reader.h"

namespace rwkv::press {
namespace {

constexpr const char* kLlamaCpp = "llama.cpp";

Result<DType> type_from(const cxxopts::ParseResult& arguments, const char* option,
                        DType otherwise) {
  if (arguments.count(option) == 0) {
    return otherwise;
  }
  RWKV_ASSIGN(const BlockType* type, block_type_named(arguments[option].as<std::string>(), option));
  return type->dtype;
}

// What stages added to a packed file for our runtime. The source of a checkpoint hides it.
Result<std::vector<std::string>> left_out(const std::string& path) {
  RWKV_ASSIGN(const std::shared_ptr<InputFile> input, InputFile::open(path));
  RWKV_ASSIGN(const GgufFile file, GgufFile::read(*input));
  const auto has = [&](std::string_view part) {
    return std::any_of(file.tensors().begin(), file.tensors().end(), [&](const GgufTensor& tensor) {
      return tensor.name.find(part) != std::string::npos;
    });
  };
  std::vector<std::string> notes;
  if (has(".ffn.predictor.")) {
    notes.emplace_back("predictors of active neurons are left out: llama.cpp computes all neurons");
  }
  if (has("head.cluster.")) {
    notes.emplace_back("the clusters of the head are left out: llama.cpp computes all tokens");
  }
  return notes;
}

const ChatTemplate& template_for(const Checkpoint& checkpoint, const LlamaCppOptions& options,
                                 const std::string& path) {
  const auto all = chat_templates();
  const auto* const stored =
      std::find_if(all.data(), all.data() + all.size(),
                   [&](const ChatTemplate& one) { return one.name == checkpoint.chat_template; });
  if (stored != all.data() + all.size()) {
    return *stored;
  }
  const std::string names[] = {options.model_name, std::filesystem::path(path).filename().string()};
  return chat_template_for(
      options.vocabulary ? std::optional(options.vocabulary->kind) : std::nullopt,
      options.vocabulary ? options.vocabulary->tokens.size() : 0, names);
}

// Text, statistics or an imatrix for the rounding, if any are given.
Status add_statistics(const cxxopts::ParseResult& arguments, const ModelConfig& config,
                      const std::string& path, LlamaCppOptions& options) {
  const bool has_text = arguments.count("calibration") > 0;
  const size_t n_given = arguments.count("stats") + arguments.count("imatrix") + (has_text ? 1 : 0);
  if (n_given > 1) {
    return usage_error("expected one of --calibration, --stats and --imatrix, found {}; remove {}",
                       n_given, n_given - 1);
  }
  if (n_given == 0) {
    return {};
  }
  CalibrationOptions text;
  RWKV_ASSIGN(const int64_t samples, cli::integer(arguments, "samples", 1, 1 << 24));
  RWKV_ASSIGN(const int64_t length, cli::integer(arguments, "length", 2, 1 << 16));
  text.samples = static_cast<uint64_t>(samples);
  text.length = static_cast<uint64_t>(length);
  if (has_text) {
    text.texts = arguments["calibration"].as<std::vector<std::string>>();
    warn_about_binary(text.texts);
  }
  RWKV_TRY(statistics_from(arguments, text));
  RWKV_ASSIGN(options.calibration, load_calibration(text, options.vocabulary, config, path));
  return {};
}

Status read_types(const cxxopts::ParseResult& arguments, LlamaCppOptions& options) {
  RWKV_ASSIGN(options.type, type_from(arguments, "type", DType::F16));
  RWKV_ASSIGN(options.head, type_from(arguments, "head-type", block_type(options.type).head));
  RWKV_ASSIGN(options.embedding, type_from(arguments, "embedding-type", options.type));
  return {};
}

bool rounds(const LlamaCppOptions& options) {
  const auto is_block = [](DType type) { return traits(type).block > 1; };
  return is_block(options.type) || is_block(options.head) || is_block(options.embedding);
}

Status choose_chat(const cxxopts::ParseResult& arguments, const Checkpoint& checkpoint,
                   const std::string& path, LlamaCppOptions& options) {
  options.chat = &template_for(checkpoint, options, path);
  if (arguments.count("chat-template") > 0) {
    RWKV_ASSIGN(options.chat, chat_template_named(arguments["chat-template"].as<std::string>(),
                                                  "--chat-template"));
  }
  return {};
}

}  // namespace

void declare_export_to_llama_cpp(cxxopts::Options& options) {
  const std::string types = block_type_names();
  options.add_options()("to", "Program to write for: llama.cpp (RWKV v6 and v7)",
                        cxxopts::value<std::string>(), kLlamaCpp)(
      "type", "With --to: type of matrices (default f16)", cxxopts::value<std::string>(), types)(
      "head-type", "... of the head (default as llama-quantize chooses for the type)",
      cxxopts::value<std::string>(), types)(
      "embedding-type", "... of the embedding (default as --type)", cxxopts::value<std::string>(),
      types)("vocab", "Vocabulary file, or 'bytes'", cxxopts::value<std::string>(), "FILE")(
      "name", "Name of the model, stored in the file", cxxopts::value<std::string>(), "NAME")(
      "chat-template", "How chats are written", cxxopts::value<std::string>(),
      chat_template_names())("samples", "Number of sequences of text",
                             cxxopts::value<std::string>()->default_value("64"), "N")(
      "length", "Tokens per sequence", cxxopts::value<std::string>()->default_value("256"), "N")(
      "allow-requantize", "Round values again that were rounded before");
  declare_calibration_options(options);
  declare_imatrix_option(options);
}

Status run_export_to_llama_cpp(const cxxopts::ParseResult& arguments) {
  if (const std::string to = arguments["to"].as<std::string>(); to != kLlamaCpp) {
    return usage_error("--to: expected {}, found '{}'", kLlamaCpp, to);
  }
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "input"));
  LlamaCppOptions options;
  RWKV_ASSIGN(options.output, cli::required(arguments, "output"));
  options.existing =
      arguments.count("force") > 0 ? OutputFile::Existing::Replace : OutputFile::Existing::Refuse;
  RWKV_TRY(read_types(arguments, options));
  RWKV_TRY(OutputFile::check(options.output, options.existing));
  const bool quiet = arguments.count("quiet") > 0;
  RWKV_ASSIGN(Checkpoint checkpoint, open_input(path, quiet));
  RWKV_TRY(refuse_own_input(arguments));
  RWKV_ASSIGN(const MergeRequest merge, merge_from(arguments));
  const bool allow_requantize = arguments.count("allow-requantize") > 0;
  RWKV_ASSIGN(std::vector<std::string> notes, merge_into(checkpoint, merge, allow_requantize));
  RWKV_ASSIGN(const Identified model, identify_checkpoint(*checkpoint.source));
  RWKV_TRY(check_llama_cpp_runs(model, path));
  if (rounds(options)) {
    RWKV_TRY(check_requantize(checkpoint, path, allow_requantize));
  }
  RWKV_ASSIGN(options.model_name, arguments.count("name") > 0
                                      ? Result<std::string>(arguments["name"].as<std::string>())
                                      : checkpoint_name(path));
  std::string note;
  RWKV_ASSIGN(
      options.vocabulary,
      choose_vocabulary(arguments.count("vocab") > 0 ? arguments["vocab"].as<std::string>() : "",
                        path, checkpoint, model.config.n_vocab, note));
  RWKV_TRY(choose_chat(arguments, checkpoint, path, options));
  RWKV_TRY(add_statistics(arguments, model.config, path, options));
  if (checkpoint.is_packed) {
    RWKV_ASSIGN(const std::vector<std::string> more, left_out(path));
    notes.insert(notes.end(), more.begin(), more.end());
  }
  if (!quiet) {
    cli::print(stderr, "{}: {}\nvocabulary: {}\n", path, describe(model.config), note);
  }
  constexpr double kSteps = 1000;
  cli::Progress progress("writing", static_cast<uint64_t>(kSteps), quiet);
  options.progress = [&](double share) { progress.update(static_cast<uint64_t>(share * kSteps)); };
  RWKV_ASSIGN(const LlamaCppResult result, export_to_llama_cpp(*checkpoint.source, model, options));
  notes.insert(notes.end(), result.notes.begin(), result.notes.end());
  if (rounds(options) && !options.calibration) {
    notes.emplace_back("rounded without text: --calibration gives a better file of the same size");
  }
  for (const std::string& line : notes) {
    cli::print(stderr, "note: {}\n", printable(line));
  }
  cli::print("{}: {}, {} tensors of {}, {} for {}\n", options.output,
             cli::human_bytes(std::filesystem::file_size(options.output)), result.n_tensors,
             describe(model.config), block_type(options.type).name, kLlamaCpp);
  return {};
}

}  // namespace rwkv::press
