// The commands of rwkv-edge, one file each, and the functions they share.
#pragma once

#include <cxxopts.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/model/evaluator.h"
#include "runtime/text/sampler.h"
#include "runtime/text/session.h"

namespace rwkv::edge {

/// Declares the positional model, -t, -q and --state.
void declare_model_options(cxxopts::Options& options, std::vector<std::string>& positionals);
/// Declares --memory, --memory-limit and the caches.
void declare_memory_options(cxxopts::Options& options);
/// The values of these options, for an evaluator with `n_threads` threads. The program's own bytes
/// are measured.
Result<MemoryOptions> memory_from(const cxxopts::ParseResult& arguments, unsigned n_threads);
/// The figures of a device in the file at `path`, which --device names; BadInput for anything else.
Result<DeviceSpeed> device_from(const std::string& path);
/// Declares --state, which model_from() follows.
void declare_state_option(cxxopts::Options& options);
/// Its value; empty without it.
Result<std::string> state_path_from(const cxxopts::ParseResult& arguments);
/// Declares --save-state.
void declare_save_state_option(cxxopts::Options& options);
/// Usage if it would replace the model or the prompt, and the error that writing there would end
/// with, before the work; nothing without --save-state.
Status check_save_state(const cxxopts::ParseResult& arguments);
/// Writes the state of `session` where --save-state says; nothing without it.
Status save_state_to(const cxxopts::ParseResult& arguments, const Session& session);
/// One line on stderr about what a limit or the file itself chose: mode, bytes, and the bytes that
/// a token reads. Nothing with -q.
void say_memory_choice(const cxxopts::ParseResult& arguments, const Model& model,
                       const MemoryOptions& options);
/// The account and the traffic of a model on which `n_tokens` tokens were evaluated, on stderr or
/// as JSON.
void print_account(const Weights& weights, size_t n_tokens);
nlohmann::ordered_json account_to_json(const Weights& weights, size_t n_tokens);
/// Declares temperature, top-p and their kind, and --seed; the seed has no default.
void declare_sampling_options(cxxopts::Options& options, const SamplerOptions& defaults);
/// The values of these options. Without a seed it draws one.
Result<SamplerOptions> sampler_from(const cxxopts::ParseResult& arguments);
/// "seed 5", or nothing where the text does not depend on it.
std::string seed_note(const SamplerOptions& sampler);
/// One line on stderr about what the command decided by itself: kernels, threads, where the memory
/// of `model` lies, its vocabulary, and `more`, whose empty ones are left out. Nothing with -q.
void say_decisions(const cxxopts::ParseResult& arguments, const Model& model, unsigned n_threads,
                   const std::vector<std::string>& more = {});
/// A line on stderr about something that the user should know. Nothing with -q.
void say(const cxxopts::ParseResult& arguments, const std::string& note);
/// Opens the model that the arguments name, within the memory that they allow.
Result<std::shared_ptr<const Model>> model_from(const cxxopts::ParseResult& arguments);
/// The value of -t, or the number of available processors.
Result<unsigned> threads_from(const cxxopts::ParseResult& arguments);
/// All bytes, at most 4 GB, of a file, a pipe, or "-", standard input.
Result<std::string> bytes_from(const cxxopts::ParseResult& arguments, const std::string& option);
/// The same for a text; BadInput for files that are known to be none.
Result<std::string> text_from(const cxxopts::ParseResult& arguments, const std::string& option);
/// The token ids of `text`; Usage if the model has no vocabulary.
Result<std::vector<int32_t>> tokenize(const Model& model, const std::string& text);
/// Numbers separated by white space or commas.
Result<std::vector<int32_t>> parse_ids(const std::string& text);

#define RWKV_EDGE_COMMANDS(X) \
  X(chat)                     \
  X(generate)                 \
  X(perplexity)               \
  X(logits)                   \
  X(bench)                    \
  X(profile)                  \
  X(tokenize)                 \
  X(detokenize)               \
  X(inspect)                  \
  X(list_kernels)

#define RWKV_EDGE_DECLARE(name)                                                          \
  void declare_##name(cxxopts::Options& options, std::vector<std::string>& positionals); \
  Status run_##name(const cxxopts::ParseResult& arguments);
RWKV_EDGE_COMMANDS(RWKV_EDGE_DECLARE)
#undef RWKV_EDGE_DECLARE

}  // namespace rwkv::edge
