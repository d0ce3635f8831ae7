#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "compressor/pipeline/pipeline.h"
#include "compressor/recipe/recipe_file.h"
#include "compressor/tools/commands.h"
#include "compressor/train/snapshot.h"
#include "formats/base/file.h"
#include "formats/base/printable.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

// Names under which vocabularies are published, tried in this order in the input's folder.
constexpr std::array<const char*, 3> kVocabularyNames = {"rwkv_vocab_v20230424.txt",
                                                         "20B_tokenizer.json", "tokenizer.json"};

// Options that name a checkpoint: a file, a folder, an index. And all others whose files are read.
constexpr std::array kCheckpointOptions = {"input", "teacher"};
constexpr std::array kInputOptions = {"recipe", "config", "vocab",   "stats",      "calibration",
                                      "text",   "cloze",  "choices", "train-data", "data",
                                      "valid",  "merge",  "imatrix"};

bool is_same_file(const fs::path& one, const fs::path& other) {
  std::error_code error;
  return fs::equivalent(one, other, error) && !error;
}

// The parts of a checkpoint in a folder, or of the index of such a folder, lie in it. A packed file
// in it is no part.
bool is_part_of(const fs::path& output, const fs::path& checkpoint) {
  std::error_code error;
  const bool is_folder = fs::is_directory(checkpoint, error);
  if (is_same_file(output, checkpoint)) {
    return true;
  }
  if ((!is_folder && checkpoint.extension() != ".json") || output.extension() == ".gguf") {
    return false;
  }
  const fs::path folder = is_folder ? checkpoint : checkpoint.parent_path();
  for (const auto& entry : fs::directory_iterator(folder.empty() ? "." : folder, error)) {
    if (is_same_file(output, entry.path())) {
      return true;
    }
  }
  return false;
}

// A vocabulary read, with the figures by which it fits a model or does not.
struct ReadVocabulary {
  Vocabulary vocabulary;
  uint64_t n_ids = 0;     ///< one more than the last id
  uint64_t n_tokens = 0;  ///< ids that have a token
};

Result<ReadVocabulary> read_vocabulary(const std::string& option) {
  ReadVocabulary read;
  if (option != "bytes") {
    RWKV_ASSIGN(read.vocabulary, read_vocabulary_file(option));
  }
  RWKV_ASSIGN(const std::unique_ptr<Tokenizer> tokenizer, make_tokenizer(read.vocabulary));
  read.n_ids = tokenizer->n_vocab();
  // World's id 0 ends a text and has no bytes.
  read.n_tokens = tokenizer->token_bytes(0).empty() ? 1 : 0;
  for (uint64_t id = 0; id < read.n_ids; ++id) {
    read.n_tokens += tokenizer->token_bytes(static_cast<int32_t>(id)).empty() ? 0 : 1;
  }
  return read;
}

// What is impossible: ids that the model has no rows for.
Status check_rows(const std::string& name, const ReadVocabulary& read, uint64_t n_rows) {
  if (read.n_ids > n_rows) {
    return bad_input(
        "vocabulary '{}' has ids up to {}, but the model's embedding ends at {}; it belongs to "
        "another model: name the right one with --vocab",
        name, read.n_ids - 1, n_rows - 1);
  }
  return {};
}

// World has 65,530 tokens for 65,536 rows and the Pile's vocabulary 50,277 for 50,277 or 50,304.
bool is_unlikely(const ReadVocabulary& read, uint64_t n_rows) {
  return read.n_tokens + n_rows / 10 < n_rows;
}

std::string misfit(const ReadVocabulary& read, uint64_t n_rows) {
  return fmt::format(
      "{} of the model's {} rows would have no token, so it seems to belong to "
      "another model",
      n_rows - read.n_tokens, n_rows);
}

}  // namespace

Result<Checkpoint> open_input(const std::string& path, bool quiet) {
  static std::set<std::string> said;
  RWKV_ASSIGN(Checkpoint checkpoint, open_checkpoint(path));
  for (const std::string& note : checkpoint.notes) {
    const std::string line = fmt::format("{}: {}", path, note);
    if (!quiet && said.insert(line).second) {
      cli::print(stderr, "note: {}\n", printable(line));
    }
  }
  return checkpoint;
}

void declare_input_options(cxxopts::Options& options) {
  options.add_options()("group-norm-eps",
                        "Epsilon of the norm after the recurrence, if the file does not say it "
                        "(default 64e-5)",
                        cxxopts::value<std::string>(), "EPSILON");
}

Result<InputOptions> input_options_from(const cxxopts::ParseResult& arguments) {
  InputOptions options;
  options.quiet = arguments.count("quiet") > 0;
  if (arguments.count("group-norm-eps") > 0) {
    RWKV_ASSIGN(const double eps, cli::real(arguments, "group-norm-eps", 0, 1));
    if (!(eps > 0 && eps < 1)) {
      return usage_error("--group-norm-eps: expected a value between 0 and 1, found {}", eps);
    }
    options.group_norm_eps = static_cast<float>(eps);
  }
  return options;
}

Result<Identified> identify_input(const Checkpoint& checkpoint, const InputOptions& options) {
  RWKV_ASSIGN(Identified model, identify_checkpoint(*checkpoint.source));
  if (options.group_norm_eps) {
    if (model.config.version == Version::V4) {
      return usage_error("--group-norm-eps: v4 has no norm after the recurrence; remove it");
    }
    model.config.group_norm_eps = *options.group_norm_eps;
  }
  return model;
}

void declare_recipe_options(cxxopts::Options& options) {
  std::string names;
  for (const Preset& preset : presets()) {
    names += fmt::format("{}{}", names.empty() ? "" : "|", preset.name);
  }
  options.add_options()("recipe", "Recipe file (YAML), or a packed file whose recipe to take",
                        cxxopts::value<std::string>(), "FILE")(
      "preset", "Built-in recipe (default fp16)", cxxopts::value<std::string>(), names)(
      "set", "Change one setting: stage.key=value; may be repeated",
      cxxopts::value<std::vector<std::string>>(),
      "KEY=VALUE")("allow-requantize", "Round values again that were rounded before");
}

Result<Recipe> recipe_from(const cxxopts::ParseResult& arguments) {
  if (arguments.count("recipe") > 0 && arguments.count("preset") > 0) {
    return usage_error(
        "expected either --recipe or --preset, found both; a recipe may start from a preset (key "
        "'preset')");
  }
  for (const char* option : {"recipe", "preset"}) {
    if (arguments.count(option) > 1) {
      return usage_error("--{}: expected one, found {}; change single settings with --set", option,
                         arguments.count(option));
    }
  }
  std::vector<std::string> overrides;
  if (arguments.count("set") > 0) {
    overrides = arguments["set"].as<std::vector<std::string>>();
  }
  if (arguments.count("recipe") > 0) {
    RWKV_ASSIGN(const std::string path, cli::required(arguments, "recipe"));
    RWKV_ASSIGN(const RecipeText text, read_recipe_file(path));
    return parse_recipe(text.yaml, text.origin, overrides);
  }
  const std::string name =
      arguments.count("preset") > 0 ? arguments["preset"].as<std::string>() : "fp16";
  RWKV_ASSIGN(const Preset* preset, find_preset(name));
  return parse_recipe(preset->yaml, fmt::format("preset {}", name), overrides);
}

Result<PlannedInput> plan_input(const std::string& path, const Recipe& recipe,
                                bool allow_requantize, const InputOptions& options,
                                const MergeRequest& merge) {
  PlannedInput input;
  RWKV_ASSIGN(input.checkpoint, open_input(path, options.quiet));
  RWKV_ASSIGN(input.notes, merge_into(input.checkpoint, merge, allow_requantize));
  RWKV_ASSIGN(input.model, identify_input(input.checkpoint, options));
  auto plan = plan_stages(recipe, input.model);
  RWKV_TRY(plan.status().in(path));
  input.plan = plan.take();
  const std::vector<std::string> names =
      rounded_again(recipe, *input.checkpoint.source, input.plan);
  if (!names.empty() && !allow_requantize) {
    return usage_error(
        "{}: {} tensors hold rounded values and would be rounded again, the first is '{}'; take "
        "the original checkpoint, keep the codecs (or decode all with --preset fp32), or accept "
        "the second loss with --allow-requantize",
        path, names.size(), names.front());
  }
  return input;
}

Status check_requantize(const Checkpoint& checkpoint, const std::string& path, bool allowed) {
  bool is_quantized = checkpoint.is_quantized;
  for (size_t i = 0; i < checkpoint.source->tensors().size(); ++i) {
    is_quantized = is_quantized || checkpoint.source->is_quantized(i);
  }
  if (is_quantized && !allowed) {
    return usage_error(
        "{}: holds rounded values, to which this would add a second loss; take the original "
        "checkpoint, or accept it with --allow-requantize",
        path);
  }
  return {};
}

Status refuse_own_input(const cxxopts::ParseResult& arguments, bool input_is_packed,
                        const std::vector<std::string>& more) {
  if (arguments.count("output") == 0) {
    return {};
  }
  const std::string output = arguments["output"].as<std::string>();
  for (const cxxopts::KeyValue& option : arguments.arguments()) {
    const bool is_checkpoint = std::find(kCheckpointOptions.begin(), kCheckpointOptions.end(),
                                         option.key()) != kCheckpointOptions.end();
    if (is_checkpoint && !input_is_packed && is_part_of(output, option.value())) {
      return usage_error(
          "{}: the output is the checkpoint that is being read, and would destroy it; choose "
          "another name",
          output);
    }
  }
  for (const std::string& file : more) {
    if (is_same_file(output, file)) {
      return usage_error("{}: the output is {}, which is being read; choose another name", output,
                         file);
    }
  }
  return cli::refuse_own_input(arguments, output, kInputOptions);
}

namespace {

// Whether the beginning of a file is no text: zero bytes, or many other control characters.
bool looks_binary(const std::string& path) {
  constexpr size_t kLooked = size_t{64} << 10;
  constexpr size_t kOneIn = 50;
  const auto file = InputFile::open(path);
  if (!file.ok()) {
    return false;  // whoever reads it says so
  }
  std::vector<std::byte> bytes(std::min<uint64_t>(kLooked, file.value()->size()));
  if (!file.value()->read_at(0, bytes).ok()) {
    return false;
  }
  size_t controls = 0;
  for (const std::byte byte : bytes) {
    const auto c = std::to_integer<unsigned char>(byte);
    controls += c < 0x20 && (c < '\t' || c > '\r') ? 1 : 0;
  }
  return std::find(bytes.begin(), bytes.end(), std::byte{0}) != bytes.end() ||
         controls * kOneIn > bytes.size();
}

}  // namespace

Result<int> train_threads_from(const cxxopts::ParseResult& arguments, const char* option) {
  if (arguments.count(option) == 0) {
    return 0;
  }
  RWKV_ASSIGN(const int64_t n, cli::integer(arguments, option, 1, kMaxTrainThreads));
  return static_cast<int>(n);
}

void declare_device_option(cxxopts::Options& options, const std::string& what) {
  options.add_options()("device", fmt::format("Where {}: cpu, cuda or cuda:N", what),
                        cxxopts::value<std::string>(), "NAME");
}

Result<at::Device> device_from(const cxxopts::ParseResult& arguments) {
  return compute_device(arguments.count("device") > 0 ? arguments["device"].as<std::string>()
                                                      : "cpu");
}

void warn_about_binary(const std::vector<std::string>& texts) {
  for (const std::string& path : texts) {
    if (looks_binary(path)) {
      cli::print(stderr,
                 "warning: {} looks like a binary file; expected text of the kind that the model "
                 "will meet\n",
                 path);
    }
  }
}

void declare_calibration_options(cxxopts::Options& options) {
  options.add_options()("calibration", "Text file to learn from; may be repeated",
                        cxxopts::value<std::vector<std::string>>(),
                        "FILE")("stats", "Statistics file of rwkv-press calibrate, instead of text",
                                cxxopts::value<std::string>(), "FILE");
}

void declare_imatrix_option(cxxopts::Options& options) {
  options.add_options()("imatrix", "llama.cpp's imatrix, instead of text",
                        cxxopts::value<std::string>(), "FILE");
}

Status statistics_from(const cxxopts::ParseResult& arguments, CalibrationOptions& options) {
  for (const char* option : {"stats", "imatrix"}) {
    if (arguments.count(option) > 0) {
      RWKV_ASSIGN(options.statistics, cli::required(arguments, option));
    }
  }
  return {};
}

Result<std::optional<Calibration>> calibration_from(const cxxopts::ParseResult& arguments,
                                                    const Recipe& recipe,
                                                    const std::optional<Vocabulary>& vocabulary,
                                                    const ModelConfig& config,
                                                    const std::string& checkpoint) {
  const size_t n_given = (arguments.count("calibration") > 0 ? 1 : 0) + arguments.count("stats") +
                         arguments.count("imatrix");
  const bool is_given = n_given > 0;
  if (n_given > 1) {
    return usage_error("expected one of --calibration, --stats and --imatrix, found {}; remove {}",
                       n_given, n_given - 1);
  }
  if (!needs_calibration(recipe) && !(is_given && may_use_calibration(recipe))) {
    if (is_given) {
      return usage_error("recipe {} does not learn from text; remove --calibration and --stats",
                         recipe.name);
    }
    return std::optional<Calibration>();
  }
  CalibrationOptions options = recipe.calibration;
  if (arguments.count("calibration") > 0) {
    options.texts = arguments["calibration"].as<std::vector<std::string>>();
    warn_about_binary(options.texts);
  }
  RWKV_TRY(statistics_from(arguments, options));
  RWKV_ASSIGN(Calibration calibration, load_calibration(options, vocabulary, config, checkpoint));
  return std::optional<Calibration>(std::move(calibration));
}

std::string missing_vocabulary_note(uint64_t n_vocab) {
  // World has 65,529 tokens; its models have 65,536 rows, sometimes rounded up further.
  constexpr uint64_t kLeast = 65'529;
  constexpr uint64_t kMost = 66'560;
  if (n_vocab < kLeast || n_vocab > kMost) {
    return "";
  }
  return fmt::format(
      "no vocabulary: {} rows are those of a World model, and this file works on token ids only. "
      "Put {} (of BlinkDL's ChatRWKV, folder tokenizer) next to the input, or name it with "
      "--vocab, "
      "and convert again\n",
      n_vocab, kVocabularyNames.front());
}

Result<std::optional<Vocabulary>> choose_vocabulary(const std::string& vocab_option,
                                                    const std::string& input,
                                                    const Checkpoint& checkpoint, uint64_t n_vocab,
                                                    std::string& note) {
  using Choice = std::optional<Vocabulary>;
  if (!vocab_option.empty()) {
    RWKV_ASSIGN(ReadVocabulary read, read_vocabulary(vocab_option));
    RWKV_TRY(check_rows(vocab_option, read, n_vocab));
    if (is_unlikely(read, n_vocab)) {
      cli::print(stderr, "rwkv-press: warning: vocabulary '{}' is taken as asked, but {}\n",
                 vocab_option, misfit(read, n_vocab));
    }
    note = vocab_option;
    if (!checkpoint.vocabulary_problem.empty()) {
      note += fmt::format(", in place of the input's own, which cannot be used ({})",
                          checkpoint.vocabulary_problem);
    }
    return Choice(std::move(read.vocabulary));
  }
  if (!checkpoint.vocabulary_problem.empty()) {
    return bad_input("{}; name the vocabulary of the model with --vocab",
                     checkpoint.vocabulary_problem);
  }
  if (checkpoint.vocabulary) {
    note = "from the input";
    return checkpoint.vocabulary;
  }
  const auto files = find_checkpoint_files(input);
  const std::string folder =
      files.ok() ? files.value().folder : fs::path(input).parent_path().string();
  for (const char* name : kVocabularyNames) {
    const fs::path candidate = fs::path(folder) / name;
    std::error_code ignored;
    if (!fs::is_regular_file(candidate, ignored)) {
      continue;
    }
    auto read = read_vocabulary(candidate.string());
    const Status status =
        read.ok() ? check_rows(candidate.string(), read.value(), n_vocab) : read.status();
    if (!status.ok()) {
      note = fmt::format("none ({})", status.message());
      continue;
    }
    if (is_unlikely(read.value(), n_vocab)) {
      note = fmt::format("none ({} is next to the input, but {}; --vocab takes it all the same)",
                         candidate.string(), misfit(read.value(), n_vocab));
      continue;
    }
    note = candidate.string() + ", found next to the input";
    return Choice(std::move(read.value().vocabulary));
  }
  if (note.empty()) {
    note = "none; the packed file will work on token ids (see --vocab)";
  }
  return Choice();
}

}  // namespace rwkv::press
