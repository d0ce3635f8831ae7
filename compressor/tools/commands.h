// Shared by the commands of rwkv-press: opening the input, finding the recipe and the vocabulary.
#pragma once

#include <cxxopts.hpp>
#include <optional>
#include <string>

#include "compressor/checkpoint/checkpoint_files.h"
#include "compressor/checkpoint/open.h"
#include "compressor/numerics/device.h"
#include "compressor/recipe/recipe.h"
#include "compressor/stages/plan.h"

namespace rwkv::press {

/// Opens an input and prints what was decided about its names and files: one line each on stderr,
/// once for every process, none if `quiet`.
Result<Checkpoint> open_input(const std::string& path, bool quiet);

/// What the tensors of an input do not show.
struct InputOptions {
  std::optional<float> group_norm_eps;  ///< in place of what the file implies
  bool quiet = false;
};
/// Declares --group-norm-eps.
void declare_input_options(cxxopts::Options& options);
/// Usage for an epsilon that is not between 0 and 1. Reads --quiet too, where the command has it.
Result<InputOptions> input_options_from(const cxxopts::ParseResult& arguments);
/// identify_checkpoint() with the options applied.
Result<Identified> identify_input(const Checkpoint& checkpoint, const InputOptions& options);

/// Declares --recipe, --preset and --set.
void declare_recipe_options(cxxopts::Options& options);
/// The recipe that they name; preset fp16 if neither is given.
Result<Recipe> recipe_from(const cxxopts::ParseResult& arguments);

/// Declares --allow-external.
void declare_external_option(cxxopts::Options& options);
/// Refuses `commands` of the recipe from `origin` (commands_of()) without --allow-external; prints
/// those that are allowed on stderr, before anything runs.
Status allow_commands(const cxxopts::ParseResult& arguments,
                      const std::vector<std::string>& commands, const std::string& origin);

/// Refuses work on a checkpoint whose values were rounded before (codecs coarser than f16 in packed
/// files, ggml's block types), unless `allowed`: it would add a second loss. For commands that
/// round or train all of it; plan_input() asks tensor by tensor.
Status check_requantize(const Checkpoint& checkpoint, const std::string& path, bool allowed);

/// Declares --calibration and --stats.
void declare_calibration_options(cxxopts::Options& options);
/// Declares --imatrix, for commands that round matrices.
void declare_imatrix_option(cxxopts::Options& options);
/// Puts the file of --stats or --imatrix into the options: an imatrix is one kind of statistics.
Status statistics_from(const cxxopts::ParseResult& arguments, CalibrationOptions& options);
/// The text or statistics that they name, with the recipe's samples and length; none if the recipe
/// does not learn from text.
Result<std::optional<Calibration>> calibration_from(const cxxopts::ParseResult& arguments,
                                                    const Recipe& recipe,
                                                    const std::optional<Vocabulary>& vocabulary,
                                                    const ModelConfig& config,
                                                    const std::string& checkpoint);

/// Adapters to merge into an input, as --merge and --alpha say.
struct MergeRequest {
  std::vector<std::string> files;
  std::optional<double> alpha;
};
/// Declares --merge and --alpha.
void declare_merge_options(cxxopts::Options& options);
Result<MergeRequest> merge_from(const cxxopts::ParseResult& arguments);
/// Merges them, and the adapter that the checkpoint itself may hold; returns lines for the user.
/// Refuses rounded values unless `allow_requantize`.
Result<std::vector<std::string>> merge_into(Checkpoint& checkpoint, const MergeRequest& request,
                                            bool allow_requantize);

/// Threads of a training, from this option; 0 if it is not given.
Result<int> train_threads_from(const cxxopts::ParseResult& arguments, const char* option);

/// Declares --device, where `what` ("a training computes"); the device that it names, else the CPU.
void declare_device_option(cxxopts::Options& options, const std::string& what);
Result<at::Device> device_from(const cxxopts::ParseResult& arguments);

/// A warning on stderr for each of these files that looks like no text.
void warn_about_binary(const std::vector<std::string>& texts);

/// An input with its model, and the plan that `recipe` makes for it. Refuses to quantise a file
/// again unless `allow_requantize`.
struct PlannedInput {
  Checkpoint checkpoint;
  Identified model;
  PackPlan plan;
  std::vector<std::string> notes;  ///< what was merged
};
Result<PlannedInput> plan_input(const std::string& path, const Recipe& recipe,
                                bool allow_requantize, const InputOptions& options,
                                const MergeRequest& merge = {});

/// A note if `n_vocab` is that of a World model, which needs a vocabulary to work on text: where it
/// is had; else empty.
std::string missing_vocabulary_note(uint64_t n_vocab);

/// The vocabulary to embed: the one of --vocab ("bytes" or a file), else that of the input, else a
/// fitting vocabulary file in the input's folder. `note` receives its origin. One with more tokens
/// than the model has rows is refused. One that leaves more than a tenth of the rows without a
/// token hardly belongs to the model: found next to it, it is not taken; named, it is, with a
/// warning on stderr.
Result<std::optional<Vocabulary>> choose_vocabulary(const std::string& vocab_option,
                                                    const std::string& input,
                                                    const Checkpoint& checkpoint, uint64_t n_vocab,
                                                    std::string& note);

/// The line above the bytes by memory mode.
inline constexpr const char* kDeviceHeading =
    "device, by memory mode (and a few MB for the program)";

/// Usage if --output is a file that the command reads, through links too, or a part of its
/// checkpoint: replacing it would destroy it. For every command with an output, before any work.
/// What is read are the options of one list (kInputOptions) and `more`. A packed file may replace
/// itself: `input_is_packed`.
Status refuse_own_input(const cxxopts::ParseResult& arguments, bool input_is_packed = false,
                        const std::vector<std::string>& more = {});

/// Declarations and bodies of the commands, one file each.
void declare_convert(cxxopts::Options& options, std::vector<std::string>& positionals);
Status run_convert(const cxxopts::ParseResult& arguments);
void declare_calibrate(cxxopts::Options& options, std::vector<std::string>& positionals);
Status run_calibrate(const cxxopts::ParseResult& arguments);
void declare_train(cxxopts::Options& options, std::vector<std::string>& positionals);
Status run_train(const cxxopts::ParseResult& arguments);
void declare_eval(cxxopts::Options& options, std::vector<std::string>& positionals);
Status run_eval(const cxxopts::ParseResult& arguments);
void declare_plan(cxxopts::Options& options, std::vector<std::string>& positionals);
Status run_plan(const cxxopts::ParseResult& arguments);
void declare_sweep(cxxopts::Options& options, std::vector<std::string>& positionals);
Status run_sweep(const cxxopts::ParseResult& arguments);
void declare_sweep_point(cxxopts::Options& options, std::vector<std::string>& positionals);
Status run_sweep_point(const cxxopts::ParseResult& arguments);
void declare_recipes(cxxopts::Options& options, std::vector<std::string>& positionals);
Status run_recipes(const cxxopts::ParseResult& arguments);
void declare_inspect(cxxopts::Options& options, std::vector<std::string>& positionals);
Status run_inspect(const cxxopts::ParseResult& arguments);
void declare_synth(cxxopts::Options& options, std::vector<std::string>& positionals);
Status run_synth(const cxxopts::ParseResult& arguments);
void declare_export(cxxopts::Options& options, std::vector<std::string>& positionals);
Status run_export(const cxxopts::ParseResult& arguments);
/// The part of export with --to llama.cpp.
void declare_export_to_llama_cpp(cxxopts::Options& options);
Status run_export_to_llama_cpp(const cxxopts::ParseResult& arguments);

}  // namespace rwkv::press
