#include "runtime/model/model.h"

#include <algorithm>

#include "formats/base/checksum.h"
#include "formats/base/little_endian.h"
#include "formats/container/packed_keys.h"
#include "formats/tokenizer/vocabulary_metadata.h"
#include "runtime/model/state_file.h"

namespace rwkv::edge {
namespace {

// States belong to a model's exact weights: its id hashes the checksums of all tensors.
uint64_t id_of(const std::vector<PackedTensor>& tensors) {
  // Narrower copies make no other model of it.
  const size_t n = n_complete_tensors(tensors);
  std::vector<std::byte> checksums(n * sizeof(uint64_t));
  for (size_t i = 0; i < n; ++i) {
    store_le(checksums.data() + i * sizeof(uint64_t), tensors[i].xxh64);
  }
  return xxh64(checksums);
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> Model::tokenizer_of(const PackedFile& file) {
  if (!has_vocabulary(file.metadata)) {
    return std::unique_ptr<Tokenizer>();
  }
  RWKV_ASSIGN(const Vocabulary vocabulary, vocabulary_from_metadata(file.metadata));
  RWKV_ASSIGN(std::unique_ptr<Tokenizer> tokenizer, make_tokenizer(vocabulary));
  if (tokenizer->n_vocab() > file.config.n_vocab) {
    return bad_input(
        "the packed vocabulary has ids up to {}, but the model has {}; convert it again with its "
        "own vocabulary",
        tokenizer->n_vocab() - 1, file.config.n_vocab);
  }
  return tokenizer;
}

namespace {

/// A template that this version does not know is no reason to refuse a model.
const ChatTemplate& chat_template_of(const GgufMetadata& metadata, const Tokenizer* tokenizer) {
  const auto stored = metadata.get_string(keys::kChatTemplate);
  const auto named = stored.ok() ? chat_template_named(stored.value(), keys::kChatTemplate)
                                 : Result<const ChatTemplate*>(stored.status());
  if (named.ok()) {
    return *named.value();
  }
  std::vector<std::string> names;
  for (const char* key : {keys::kName, keys::kSourceFile}) {
    if (const auto name = metadata.get_string(key); name.ok()) {
      names.push_back(name.value());
    }
  }
  return chat_template_for(tokenizer ? std::optional(tokenizer->kind()) : std::nullopt,
                           tokenizer ? tokenizer->n_vocab() : 0, names);
}

}  // namespace

Result<std::shared_ptr<const Model>> Model::open(const std::string& path) {
  MemoryOptions options;
  options.mode = MemoryMode::Full;
  return open(path, options);
}

Result<std::shared_ptr<const Model>> Model::open(const std::string& path,
                                                 const MemoryOptions& options) {
  return open(path, options, "");
}

Result<std::shared_ptr<const Model>> Model::open(const std::string& path,
                                                 const MemoryOptions& options,
                                                 const std::string& state_path) {
  RWKV_TRY(kernels().status());
  RWKV_ASSIGN(PackedFile file, PackedFile::open(path));
  std::shared_ptr<Model> model(new Model);
  auto tokenizer = tokenizer_of(file);
  RWKV_TRY(tokenizer.status().in(path));
  model->tokenizer_ = tokenizer.take();
  model->chat_template_ = &chat_template_of(file.metadata, model->tokenizer_.get());
  // The text of the vocabulary is now in the tokenizer and nothing else in the metadata is needed;
  // on a small device its memory should be free before the weights are loaded.
  file.metadata = {};
  trim_heap();

  model->needs_ = pass_needs(file);
  model->model_id_ = id_of(file.tensors);
  const uint64_t tokenizer_bytes = model->tokenizer_ ? model->tokenizer_->memory_bytes() : 0;
  model->options_ = options;
  model->options_.has_state_file |= !state_path.empty();
  RWKV_ASSIGN(Residency residency, Model::residency(file, tokenizer_bytes, model->options_));
  RWKV_ASSIGN(model->weights_, Weights::load(std::move(file), std::move(residency)));
  RWKV_TRY(model->load().in(path));
  if (!state_path.empty()) {
    RWKV_TRY(model->begin_with(state_path));
  }
  return std::shared_ptr<const Model>(std::move(model));
}

namespace {

// What a model takes besides its weights.
OtherMemory other_memory(const PackedFile& file, uint64_t tokenizer_bytes,
                         const MemoryOptions& options) {
  // A session holds the logits, a copy to sample from, and the sampler's candidates.
  constexpr uint64_t kLogitBuffers = 3;
  const ModelConfig config = file.config;
  const PassNeeds needs = pass_needs(file);
  // The state that texts begin with is kept beside those of sessions, which return to it.
  const bool is_tuned =
      std::any_of(file.bindings.begin(), file.bindings.end(),
                  [](const TensorBinding& binding) { return binding.role == Role::InitialState; });
  const uint64_t n_states = is_tuned || options.has_state_file ? 2 : 1;
  const unsigned n_threads = options.n_threads;
  return {tokenizer_bytes, n_states * config.state_floats() * sizeof(float),
          ClusterHead::bytes(config), [config, needs, n_threads](size_t max_chunk) {
            return Pass::bytes(config, {std::max(1u, n_threads), max_chunk, needs}) +
                   kLogitBuffers * config.n_vocab * sizeof(float);
          }};
}

}  // namespace

Result<Residency> Model::residency(const PackedFile& file, uint64_t tokenizer_bytes,
                                   const MemoryOptions& options) {
  return residency_for(file, options, other_memory(file, tokenizer_bytes, options));
}

Status Model::plan_again(const StreamChange& change) const {
  MemoryOptions options = options_;
  options.limit = change.limit;
  options.stream.tokens_per_second = change.tokens_per_second;
  options.stream.first_token_seconds = 0;
  if (change.weight_bytes > 0) {
    options.stream.weight_bytes = change.weight_bytes;
  }
  return weights_->move_to([&](const PackedFile& file) {
    const uint64_t tokenizer_bytes = tokenizer_ ? tokenizer_->memory_bytes() : 0;
    return streamed_again(file, weights_->residency(), options,
                          other_memory(file, tokenizer_bytes, options));
  });
}

Result<Model::Norm> Model::load_norm(const std::string& name) const {
  Norm norm;
  RWKV_ASSIGN(norm.weight, weights_->vector(name + ".weight"));
  RWKV_ASSIGN(norm.bias, weights_->vector(name + ".bias"));
  return norm;
}

Status Model::load_ends() {
  RWKV_ASSIGN(embedding_, weights_->rows("emb.weight"));
  RWKV_ASSIGN(head_, weights_->matrix("head.weight"));
  if (!head_.units && head_.parts.empty()) {
    RWKV_ASSIGN(head_rows_, weights_->rows("head.weight"));
  }
  RWKV_ASSIGN(ln0_, load_norm("blocks.0.ln0"));
  RWKV_ASSIGN(ln_out_, load_norm("ln_out"));
  if (config().n_cluster > 0) {
    cluster_head_ = std::make_unique<ClusterHead>();
    return cluster_head_->load(*weights_);
  }
  return {};
}

Status Model::load() {
  RWKV_TRY(load_ends());
  for (size_t i = 0; i < config().n_layer; ++i) {
    const std::string prefix = fmt::format("blocks.{}.", i);
    Block block;
    RWKV_ASSIGN(block.ln1, load_norm(prefix + "ln1"));
    RWKV_ASSIGN(block.ln2, load_norm(prefix + "ln2"));
    RWKV_ASSIGN(block.time_mix, load_time_mix(*weights_, prefix));
    RWKV_ASSIGN(block.channel_mix, load_channel_mix(*weights_, prefix));
    blocks_.push_back(std::move(block));
  }
  return load_tuned_state();
}

// The wkv states that a model was tuned to; what tokens shift to the next one begins as zero.
Status Model::load_tuned_state() {
  State state = empty_state();
  bool is_tuned = false;
  for (size_t i = 0; i < config().n_layer; ++i) {
    const std::string name = fmt::format("blocks.{}.att.time_state", i);
    if (weights_->contains(name)) {
      RWKV_ASSIGN(const std::vector<float> values, weights_->read_vector(name));
      std::copy(values.begin(), values.end(), state.layer(i).wkv);
      is_tuned = true;
    }
  }
  if (is_tuned) {
    const auto values = state.values();
    initial_ = std::make_shared<const std::vector<float>>(values.begin(), values.end());
  }
  return {};
}

Status Model::begin_with(const std::string& state_path) {
  State state = empty_state();
  RWKV_ASSIGN(StateFileContents contents, load_state_file(state_path, state));
  const auto values = state.values();
  initial_ = std::make_shared<const std::vector<float>>(values.begin(), values.end());
  initial_logits_ = std::move(contents.logits);
  return {};
}

}  // namespace rwkv::edge
